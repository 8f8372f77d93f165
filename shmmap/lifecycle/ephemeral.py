"""Leaving an ephemeral map: who is the last, and whose its files are then.

The others are judged by the descriptor of the liveness file that is open already: a process that
has changed its root or its mounts may not see the file's name, or see another one there, and one
that has changed its user could not open it again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import MapCorrupted, SystemCallError
from ..memory.layout import constants
from ..system import segment
from ..system.process import effective_uid, mapped_here

if TYPE_CHECKING:
    from .attachment import Attachment

K = constants()
_PATIENCE_S = 0.03  # for a subprocess that was just started, and has not let go of the map yet


def is_last(attached: Attachment) -> bool:
    """Give this process's row back, and tell whether nobody has the map any more. The creation
    lock is held.

    Raises:
        SystemCallError: nobody can tell.
    """
    worker = attached.worker
    worker.give_back()
    try:
        worker.open_file()  # where it never joined
    except MapCorrupted:  # its files are gone
        return True
    return bool(worker.is_abandoned(_PATIENCE_S))


def leave_last(
    attached: Attachment, left_ns: int, is_open_again: Callable[[], bool]
) -> bool:
    """Leave a map that nobody else has: have its linger= count from `left_ns`, or remove it; tell
    whether it was removed. The creation lock is held."""
    if attached.parameters.linger_ns:
        attached.control.LEFT_NS = left_ns  # void if a handler has opened it: that joined later
        return False
    attached.control.STATE = K["STATE_RETIRED"]  # before the look: none comes now
    if is_open_again():
        attached.control.STATE = K["STATE_READY"]
        return False
    remove(attached)
    return True


def remove(attached: Attachment) -> None:
    """Remove a retired map's files. Where they are another user's, who alone may remove them, or
    not to be seen here (chroot), at least give their memory back."""
    for _ in range(2):
        with contextlib.suppress(SystemCallError):
            attached.remove_files()
            if not attached.worker.file.links():
                return
    _give_up_memory(attached)


def _give_up_memory(attached: Attachment) -> None:
    """Give back the memory of a map that nobody uses, but that of its control segment, which says
    so. The semaphores are mapped by the C library: /proc tells where."""
    for mapping in (*attached.mappings, *attached.lock_mappings):
        mapping.give_up_pages()
    semaphores = segment.semaphore_file(segment.shard_name(attached.name, attached.nonce, 0, 0))
    for start, end in mapped_here(os.fsencode(semaphores.rpartition(".0.0")[0])):
        segment.give_up(start, end - start)


def hand_over(attached: Attachment) -> None:
    """As root, give the files to the user of those who stay, if all of root's have gone and they
    are of one user: the last of them could not remove what is root's from a sticky directory."""
    control = segment.control_name(attached.name)
    with contextlib.suppress(OSError, MapCorrupted, SystemCallError):
        users = {effective_uid(pid) for _, pid in attached.worker.rows_in_use()}
        owner = os.stat(segment.SHM_DIRECTORY + control).st_uid
        if len(users) == 1 and owner == 0 and not users & {0, None} and attached.has_its_name():
            user = users.pop()
            for label in (*attached.part_files, control):
                _give(label, user)  # type: ignore[arg-type]


def _give(label: str, user: int) -> None:
    """Give a file of root's to another user, if it is one. Where a map moves there may be none of
    that name so far, or a stranger's, which must not lead root elsewhere."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(segment.SHM_DIRECTORY + label, flags)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_nlink) == (0, 1) and stat.S_ISREG(status.st_mode):
            os.fchown(descriptor, user, -1)
    finally:
        os.close(descriptor)
