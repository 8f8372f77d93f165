"""A damaged map as other processes meet it: they attach anew, fork, look from outside, unlink.

Each visit is a forked process. One that attaches forgets the attachment that it inherited, so
that it goes the whole way in.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from collections.abc import Callable
from typing import Any

import shmmap
from shmmap.lifecycle import opening
from shmmap.tools import cli, fsck
from shmmap.tools.ui import searching
from shmmap.tools.ui.looking import Looker, find

from ..support.children import die_with_parent
from .operations import OPERATIONS
from .trial import Problem, Trial, Wrong

_kept: list[Any] = []  # what a visitor forgot stays in memory: nobody closes it


def visit(t: Trial, name: str) -> str:
    """Have a forked process visit; take over what it found."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        _visit_and_exit(t, name, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status or not told:
        raise Wrong(f"the visitor ended with status {status} (signal {status & 127})")
    outcomes, problems = json.loads(told)
    t.outcomes.update(outcomes)
    t.problems += [Problem(*problem) for problem in problems]
    return "done"


def _visit_and_exit(t: Trial, name: str, pipe: int) -> None:
    code = 1
    try:
        die_with_parent()
        t.outcomes.clear()
        t.problems.clear()
        VISITS[name](t)
        os.write(pipe, json.dumps([t.outcomes, t.problems]).encode())
        code = 0
    finally:
        os._exit(code)


def _forget_attachments() -> None:
    fsck.LOCK_TIMEOUT_S = 0.5
    _kept.append(dict(opening._attachments))
    opening._attachments.clear()


def _operate(t: Trial, count: int) -> None:
    for name in t.rng.sample(sorted(OPERATIONS), count):
        t.run(name, *OPERATIONS[name])


def attach(t: Trial) -> None:
    """Attach as a new process would, use the map, close it."""
    _forget_attachments()
    missing = (shmmap.MapNotFound,) if t.control_damaged() or t.files_damaged else ()
    opened = []

    def act(t: Trial) -> None:
        opened.append(shmmap.ShmMap.attach(t.subject.name, lock_timeout=0.05))

    if t.run("attach", act, (shmmap.ConfigMismatch, shmmap.MapCorrupted, *missing)):
        t.m = opened[0]
        t.m.attachment.clock.frozen_ns = t.subject.clock.frozen_ns
        _operate(t, 4)
        t.run("close", lambda t: t.m.close())


def fork(t: Trial) -> None:
    """Go on with an inherited handle."""
    _operate(t, 4)


def _command(*words: str) -> Callable[[Trial], None]:
    """Return what runs a command of the command line."""

    def act(t: Trial) -> str:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                code = cli.main([*words, *([t.subject.name] if words[0] != "ls" else [])])
            except SystemExit as end:
                raise Wrong(f"usage: {end}") from None
        if code not in (0, 1, 4, 5, 8, 9, 12, 13):
            raise Wrong(f"exit code {code}")
        return f"exit code {code}"

    def run(t: Trial) -> None:
        _forget_attachments()
        t.run(words[0], act)

    return run


def look_at_page(t: Trial) -> None:
    """Ask what the page of `shmmap ui` is told: the figures, the keys, and some values."""

    def act(t: Trial) -> None:
        look = Looker([t.subject.name], 1.0).newest(0, 60.0)
        assert look is not None
        for one in json.loads(look.maps)["maps"]:
            json.loads(look.of_map(one["label"]))
            with contextlib.suppress(shmmap.ShmMapError, OSError):
                reader = searching.open_reader(find(one["label"], ()))
                for key in searching.keys(reader, "")["keys"][:20]:
                    with contextlib.suppress(shmmap.ShmMapError):
                        searching.value(reader, key["id"])

    _forget_attachments()
    t.run("ui", act)


VISITS: dict[str, Callable[[Trial], None]] = {
    "attach": attach, "fork": fork, "ls": _command("ls"), "info": _command("info"),
    "fsck": _command("fsck"), "fsck --repair": _command("fsck", "--repair", "--yes"),
    "ui": look_at_page,
}  # fmt: skip


def some_visit(t: Trial) -> None:
    """Have one visitor."""
    name = t.rng.choice(sorted(VISITS))
    t.run(f"visit: {name}", lambda t: visit(t, name))
    if name in ("attach", "fork"):  # it wrote, and we do not know what
        t.right = {}
        t.forget_all()


# -- damaged files ----------------------------------------------------------------------------


def damage_files(t: Trial) -> str:
    """Cut, stretch, remove, exchange or garble one of a map's objects; say what was done."""
    rng = t.rng
    paths = [f"/dev/shm/{entry}" for entry in sorted(os.listdir("/dev/shm"))
             if entry.removeprefix("sem.").split(".")[1:2] == [t.subject.name]]
    path = rng.choice(paths)
    size = os.stat(path).st_size
    what = rng.choice(("cut", "stretched", "removed", "exchanged", "garbled", "emptied", "wide"))
    if what == "cut":
        os.truncate(path, rng.choice((size // 2, size - 1, 8, 1, max(0, size - 4096))))
    elif what == "stretched":
        os.truncate(path, size + rng.choice((1, 8, 4096, 1 << 20)))
    elif what == "emptied":
        os.truncate(path, 0)
    elif what == "removed":
        os.unlink(path)
    elif what == "exchanged":
        os.rename(path, rng.choice(paths))
    elif what == "wide":
        os.chmod(path, 0o666)
    else:
        with open(path, "r+b") as file:
            file.write(rng.randbytes(min(size, 4096)))
    return f"{what} {path.removeprefix('/dev/shm/').replace(t.subject.name, 'NAME')}"


def visit_damaged_files(t: Trial) -> None:
    """Have every kind of visitor look at a map with a damaged file, and one unlink it.

    The subject itself is not touched any more: its memory could not be restored. What becomes
    of who has the map open is test_truncated.py's to ask.
    """
    t.subject.gaps.allow()
    t.subject.restore()  # nothing but a file is damaged
    t.kinds = [damage_files(t)]
    t.files_damaged = True
    for name in ("ls", "info", "fsck", "attach", "fsck --repair", "attach"):
        t.right, t.sure = {}, set()
        t.run(f"visit: {name}", lambda t, name=name: visit(t, name))
    VISITS["unlink"] = _command("unlink", "--yes")
    t.run("visit: unlink", lambda t: visit(t, "unlink"))


def is_of_files(rng: random.Random) -> bool:
    """Choose, by a state's own generator, whether its files are damaged."""
    return rng.random() < 0.001

