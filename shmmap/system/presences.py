"""Which objects are still there, be they garbage that the collector is about to end.

It cuts all weak references to garbage before the first finalizer of that garbage runs, though each
of them may still use the objects; and it knows the instances of every class, also of one without
attributes. So an object refers to something else that can be weakly referenced and that the
collector does not know: it goes when the object has gone, after all finalizers. Of Python's own
types, code objects are the only such.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

Found = TypeVar("Found")
_PLAIN = compile("0", "what a handle alone refers to", "eval")


class Presences:
    """What objects alone refer to.

    Attributes:
        noted: it, by the numbers of the objects.
    """

    def __init__(self) -> None:
        self.noted: dict[int, weakref.ref[CodeType]] = {}

    def note(self, number: int, at_end: Callable[[weakref.ref[CodeType]], object]) -> object:
        """Return what the object of that number, and nobody else, has to refer to; `at_end` is
        called once it has gone."""
        presence = _PLAIN.replace(co_firstlineno=1)  # a new one
        self.noted[number] = weakref.ref(presence, at_end)
        return presence

    def end(self, number: int) -> None:
        """Note that an object has come to its end; nothing is called any more. Idempotent."""
        self.noted.pop(number, None)

    def has_gone(self, number: int) -> bool:
        """Tell whether an object has gone without its end having been noted."""
        presence = self.noted.get(number)
        return presence is not None and presence() is None

    def any(self) -> bool:
        """Tell whether any of the objects is there."""
        return bool([True for presence in list(self.noted.values()) if presence() is not None])


def alive(objects: weakref.WeakValueDictionary[Any, Found]) -> list[Found]:
    """List the objects that such a dictionary still has, in one step. Its `values` is a generator:
    another thread, or a handler of a signal, may add an object before it has come to its end."""
    return [found for one in objects.valuerefs() if (found := one()) is not None]
