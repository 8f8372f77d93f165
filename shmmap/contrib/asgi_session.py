"""What `request.session` is in an ASGI application, and how it gets another id."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any


class Session(dict[str, Any]):
    """What `request.session` is: a dict that knows whether it was looked at, and changed."""

    accessed = False
    _before = b""  # it, pickled, when it was stored, or when somebody looked at it first
    _is_rotated = False
    _is_told = False  # the client's headers are on their way

    def mark_accessed(self) -> None:
        """Note that it is used; Starlette calls this."""
        if not self.accessed:
            self.accessed = True  # first: to pickle it is to look at it
            self._before = self._pickled()

    def _pickled(self) -> bytes:
        return pickle.dumps(dict.copy(self), pickle.HIGHEST_PROTOCOL)


def _noting(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def noted(session: Session, *args: Any, **named: Any) -> Any:
        session.mark_accessed()
        return method(session, *args, **named)

    return noted


for _name in (  # for frameworks that do not call mark_accessed, and users of scope["session"]
    "__contains__", "__delitem__", "__eq__", "__getitem__", "__ior__", "__iter__", "__len__",
    "__ne__", "__or__", "__repr__", "__reversed__", "__ror__", "__setitem__", "clear", "copy",
    "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values",
):
    setattr(Session, _name, _noting(_name))


def rotate(request: Any) -> None:
    """Give the session of a request, or of an ASGI scope, another id; the old one is good for
    nothing then, whoever knows it. To be called where a user logs in, or gains rights.

    Raises:
        RuntimeError: the response has begun, so the client cannot be told any more.
    """
    session = getattr(request, "scope", request)["session"]
    if session._is_told:
        raise RuntimeError("rotate: the response has begun; call it before that")
    session.mark_accessed()
    session._is_rotated = True
