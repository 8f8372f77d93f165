"""Values that cannot be read here, of before a deploy mostly: the error, and how a listing goes on.

What unpickling raises says nothing of the map: a KeyError of the value's own code is no missing
entry, an error of a pickled map is not one of the map that is read. So it is the cause of a
`ValueUnreadable`. Two things are not the value's, and stay what they are: a MemoryError, and what a
signal handler raises just then, which comes once where a value's error comes each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from ..checks import Key, Value, shown
from ..errors import MapCorrupted, ValueUnreadable
from ..values._codecs_cy import OfTheValue

OnUnreadable = str | Callable[[ValueUnreadable], object]
_ENDS = (KeyError, StopIteration, StopAsyncIteration)  # of a lookup, of a loop
_TEXT_AT_MOST = 300


def error_for_value(
    error: BaseException, name: str, key: Key, decode: Callable[[], Value]
) -> BaseException:
    """Return the error to raise for one that the decoding of a value raised; it names map and key.

    `decode` does the same once more.
    """
    where = f"map {name!r}, key {shown(key)}"
    if isinstance(error, MapCorrupted):
        made = MapCorrupted(f"{where}: {error}")
        made.__suppress_context__ = True
        return made
    if isinstance(error, OfTheValue):
        assert error.__cause__ is not None
        error = error.__cause__
    elif not isinstance(error, Exception) or isinstance(error, MemoryError) or not (
        isinstance(error, _ENDS) or _comes_again(error, decode)
    ):
        _note(error, f"{where}: raised while its value was read; if it always is, delete the key")
        return error
    unreadable = ValueUnreadable(
        f"{where}: its value cannot be read here ({type(error).__name__}: {_text_of(error)}). Was "
        "its class renamed or removed since it was stored? Delete the key or write it anew "
        "(get_or_set and @cached do); listings go on with on_unreadable=\"skip\""
    )
    unreadable.name, unreadable.key = name, key
    unreadable.__cause__ = error
    return unreadable


def _comes_again(error: Exception, decode: Callable[[], Value]) -> bool:
    """Tell whether decoding raises such an error each time."""
    try:
        decode()
    except Exception as again:
        if type(again) is type(error) or isinstance(again, OfTheValue):
            return True
        raise  # a signal handler's, this time
    return False


def _text_of(error: BaseException) -> str:
    """Write an error, whose class may be anybody's."""
    text = ""
    with suppress(Exception):
        text = str(error)
    return text if len(text) <= _TEXT_AT_MOST else f"{text[:_TEXT_AT_MOST]}..."


def _note(error: BaseException, note: str) -> None:
    """Add a note to an error, once. Python 3.11 and newer show it."""
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list):
        notes = []
    if note not in notes:
        with suppress(Exception):  # somebody's class may refuse attributes
            error.__notes__ = [*notes, note]
        if sys.version_info < (3, 11) and error.__cause__ is None:
            error.__cause__ = RuntimeError(note)


def handler_of(on_unreadable: OnUnreadable) -> Callable[[ValueUnreadable], object] | None:
    """Return what a listing calls for each value that cannot be read; None: raise its error."""
    if callable(on_unreadable):
        return on_unreadable
    if not isinstance(on_unreadable, str):
        raise TypeError(
            'on_unreadable must be "raise", "skip", or a function that is called with each '
            f"ValueUnreadable, not {type(on_unreadable).__name__}"
        )
    if on_unreadable not in ("raise", "skip"):
        raise ValueError(
            f'on_unreadable={on_unreadable!r} must be "raise", "skip", or a function that is '
            "called with each ValueUnreadable"
        )
    return None if on_unreadable == "raise" else _skip


def _skip(error: ValueUnreadable) -> None:
    """Leave out an entry."""
