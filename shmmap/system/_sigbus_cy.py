# mypy: ignore-errors
"""Survive that another process truncates the file behind mapped memory.

The first access beyond the new end is a SIGBUS, which would end every process
that uses the map. The compiled engine catches it: the handler, in C in the
.pxd, puts private zero pages where the file was cut off, up to the region's
end, stores CUT where `tell` said, and the access goes on, on zeros.

A fault elsewhere, and a SIGBUS that somebody sent, go to whoever handled the
signal before us. We install once, at the first region: who installs a handler
later has the last word. Installing again at every region would chain two
handlers to each other.

The pure engine cannot do any of this (a handler in Python runs after the access,
which never ends): its functions do nothing, and the signal ends the process.

**Crash**: nothing of this is shared; a forked child has the zero pages too.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from shmmap import _cython as cython  # type: ignore[no-redef]

COMPILED = cython.compiled
CUT = 2  # what the handler stores


def watch(address, size):
    """Guard mapped memory, in whole pages; give a number for it. 0: nothing is guarded (pure).

    Raises:
        MemoryError: it is not guarded.
    """
    if cython.compiled:
        number: cython.ulonglong = watch_region(address, size)
        if not number:
            raise MemoryError
        try:
            return number
        except MemoryError:  # nobody could tell what to forget
            unwatch_region(number)
            raise
    return 0


def tell(number, flag_address):
    """Have CUT stored at an address when the region is cut off. The word must outlive it."""
    if cython.compiled:
        tell_region(number, flag_address)


def is_cut(number):
    """Tell whether a part of a region was missing when it was accessed."""
    if cython.compiled:
        return region_is_cut(number)
    return False


def unwatch(number):
    """Forget a region, before it is unmapped."""
    if cython.compiled:
        unwatch_region(number)


def unlink_if(path, device, inode):
    """Compiled: remove a name if it leads to that very file. No handler and no finalizer, which
    could put a successor there, runs between the look and the removal. 0: done; -1: it does not;
    else the kernel's errno."""
    if cython.compiled:
        return unlink_that(path, device, inode)
    raise NotImplementedError
