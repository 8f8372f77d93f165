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


class Region:
    """Mapped memory, guarded in whole pages from `watch` to `forget`; pure: it is not.

    Either is one step: no handler and no finalizer runs between what the list of regions knows and
    what this object knows. A region that was forgotten twice would be given to two mappings, and
    the first of them would lose its guard.

    `address`: of what `open_region` mapped, which is unmapped as it is forgotten, or as this goes;
    else 0.
    """

    def __init__(self):
        self.number = 0
        self.address = 0
        self.size = 0

    def watch(self, address, size):
        """Guard memory. It must be forgotten before that is unmapped.

        Raises:
            MemoryError: it is not guarded.
        """
        if cython.compiled:
            self.number = watch_region(address, size)
            if not self.number:
                raise MemoryError

    def tell(self, flag_address):
        """Have CUT stored at an address when the region is cut off. The word must outlive it."""
        if cython.compiled:
            tell_region(self.number, flag_address)

    def is_cut(self):
        """Tell whether a part of the region was missing when it was accessed."""
        if cython.compiled:
            return region_is_cut(self.number)
        return False

    def forget(self):
        """Guard it no more; unmap what `open_region` mapped. Idempotent."""
        if cython.compiled:
            number: cython.ulonglong = self.number
            address: cython.ulonglong = self.address
            self.number = 0
            self.address = 0
            close_region(number, address, self.size)

    def __dealloc__(self):
        if cython.compiled:
            close_region(self.number, self.address, self.size)


def open_region(path: bytes, owner, unwanted, size, start: bytearray):
    """Compiled: map and guard a file, in one step, if it is a regular one of `owner` with no other
    name, none of the bits `unwanted` in its mode and just `size` bytes; fill `start` with the first
    of them, and return its Region. None: it is not, or the kernel refused, and nothing has changed:
    whoever goes the long way finds out why. Pure: None.
    """
    if not cython.compiled:
        return None
    number: cython.ulonglong = 0
    region: Region = Region()
    region.address = map_file(path, owner, unwanted, size, PyByteArray_AS_STRING(start),
                              len(start), cython.address(number))
    region.number = number
    region.size = size
    return region if region.address else None


def was_any_cut():
    """Tell whether any region of this process ever was: a look at each of many takes longer."""
    if cython.compiled:
        return region_was_cut()
    return False


def count_regions():
    """Tell how many regions are guarded, how many may be again, and how many there are in all."""
    if cython.compiled:
        return regions_in_use(), regions_spare(), regions_in_all()
    return 0, 0, 0


def unlink_if(path, device, inode):
    """Compiled: remove a name if it leads to that very file. No handler and no finalizer, which
    could put a successor there, runs between the look and the removal. 0: done; -1: it does not;
    else the kernel's errno."""
    if cython.compiled:
        return unlink_that(path, device, inode)
    raise NotImplementedError
