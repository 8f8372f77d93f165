"""Leaving an ephemeral map: who is the last, and whose its files are then."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from . import segment
from .errors import MapCorrupted, SystemCallError
from .judging import Judge
from .process import effective_uid


def is_last(attached: Any) -> bool:
    """Give this process's row back, and tell whether nobody has the map any more. The creation
    lock is held.

    Raises:
        SystemCallError: nobody can tell.
    """
    attached.worker.leave()
    judge = _judge(attached)
    try:
        with judge.asking():
            return judge.is_abandoned()
    except MapCorrupted:  # its files are gone
        return True


def _judge(attached: Any) -> Judge:
    """Make a judge of the others, once our own descriptor of the liveness file is closed."""
    return Judge(
        f"map {attached.name!r}", segment.liveness_name(attached.name, attached.nonce),
        attached.control.words, attached.control["ROWS"], attached.parameters.mode,
        attached.owner_uid, attached.control.identity[1],
    )


def hand_over(attached: Any) -> None:
    """As root, give the files to the user of those who stay, if all of root's have gone and they
    are of one user: the last of them could not remove what is root's from a sticky directory."""
    control = segment.control_name(attached.name)
    with contextlib.suppress(OSError, MapCorrupted, SystemCallError):
        judge = _judge(attached)
        with judge.asking():
            users = {effective_uid(pid) for _, pid in judge.rows_in_use()}
        owner = os.stat(segment.SHM_DIRECTORY + control).st_uid
        if len(users) == 1 and owner == 0 and not users & {0, None}:
            user = users.pop()
            for file in (*attached.part_files, control):
                os.chown(segment.SHM_DIRECTORY + file, user, -1)  # type: ignore[arg-type]
