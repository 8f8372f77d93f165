"""What is public says that it is found in the package itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Public = TypeVar("_Public")


def public(one: _Public) -> _Public:
    """Have a class or a function say so: a pickle of it, in a map or a dump, must not name the
    module where it happens to stand. Nor may one of a map: to import a module of a package that
    another thread is importing does not wait for the package."""
    one.__module__ = "shmmap"
    return one
