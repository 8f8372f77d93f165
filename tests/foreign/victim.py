"""What our side does while another user is at its objects: everything, and each step is told.

A step's outcome is "ok", or the class and the text of what it raised; a step that gives another
value than it should says so. Whether that is allowed is judged by `world`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable
from typing import Any

import shmmap
from shmmap.shard import _status
from shmmap.tools import cli, doctor

from ..support.children import Child
from ..support.shard0 import lock_of, token
from ..support.strangers import SHM, forget_creations

PRECIOUS = b"v" * 4096
LOCK_TIMEOUT_S = 0.3
Outcomes = dict[str, str]
with contextlib.redirect_stdout(io.StringIO()):
    doctor.run(list)  # loads what another user may not be able to read


class BadManners(Exception):
    """A command showed what nobody should see."""


def have_a_file() -> None:
    """Have a file that must not be harmed."""
    (SHM / "precious").write_bytes(PRECIOUS)
    (SHM / "precious").chmod(0o600)


def have_a_map(name: str) -> None:
    """Have another map that must not be."""
    with shmmap.ShmMap(f"{name}-other", "300KB", shards=1) as m:
        m["mine"] = 1


def make(name: str, mode: int) -> Any:
    """Make the map that it is about."""
    m = shmmap.ShmMap(name, "300KB", shards=1, mode=mode, lock_timeout=LOCK_TIMEOUT_S,
                      on_unlinked="raise",  # what a stranger did is told, not got past
                      sweep_interval=None)
    m["a"] = 1
    m.set("short", 2, ttl=600)
    return m


def unharmed(name: str) -> None:
    """Look whether anything else was harmed: the file and, given the map's name, the other."""
    expect((SHM / "precious").read_bytes() == PRECIOUS, True)
    if not name:
        return
    with shmmap.ShmMap.attach(f"{name}-other") as m:
        expect((m["mine"], m.check()), (1, []))


def expect(found: Any, wanted: Any) -> None:
    assert found == wanted, f"{found!r:.100}, not {wanted!r:.100}"


def take_lock(m: Any) -> Any:
    with m.lock("named", timeout=0.5) as lock:
        return lock.held


def another_process(name: str, mode: int) -> Any:
    """Attach in a process that never saw the map, and use it."""
    def use(child: Child) -> Any:
        forget_creations()
        with shmmap.ShmMap.attach(name, mode=mode, lock_timeout=LOCK_TIMEOUT_S) as m:
            m["theirs"] = 1
            return m["a"], m["theirs"]

    return Child(use).end()


def take_over(m: Any) -> Any:
    """Have a worker die while it holds the shard, and write."""
    def die(child: Child) -> None:
        child.tell(lock_of(m).lock(token(m), 10**8) in (_status.FREE, _status.WAITED))
        os.kill(os.getpid(), signal.SIGKILL)

    child = Child(die)
    had_it = False
    with contextlib.suppress(Exception):
        had_it = child.hear()
    child.kill()
    m["a"] = 1
    return m["a"], had_it


def command(*arguments: str) -> None:
    """Run a command; whatever it finds, it shows no traceback, and nothing that speaks."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        cli.main(arguments)
    text = said.getvalue()
    if any(not one.isprintable() and one != "\n" for one in text):
        raise BadManners(f"it speaks to the terminal: {text!r:.200}")
    for wrong in ("Traceback", "check itself failed"):
        if wrong in text:
            raise BadManners(text[max(0, text.index(wrong) - 30) :])


def copies(m: Any, name: str) -> Any:
    m.dump(SHM / "dump")
    with shmmap.ShmMap.load(SHM / "dump", f"{name}-copy", mode=0o600) as copy:
        found = copy["a"]
        copy.unlink()
    return found


def anew(m: Any, name: str, mode: int) -> Any:
    """Unlink the map, and make one of the same name."""
    m.unlink()
    m.close()
    return use_up(name, mode)


def steps(m: Any, name: str, mode: int) -> dict[str, tuple[Callable[[], Any], Any]]:
    """List all that a user of a map does, with what it should give."""
    return {
        "get": (lambda: m["a"], 1), "set": (lambda: m.set("b", 2), None),
        "incr": (lambda: m.incr("n"), 1), "ttl": (lambda: m.set("t", 1, ttl=60), None),
        "many": (lambda: m.set_many({i: bytes(300) for i in range(30)}), None),
        "lock": (lambda: take_lock(m), True), "list": (lambda: len(dict(m)) > 30, True),
        "length": (lambda: len(m) > 30, True), "snapshot": (lambda: m.snapshot()["a"], 1),
        "check": (m.check, []), "stats": (lambda: m.stats().entries > 30, True),
        "sweep": (lambda: m.sweep() and None, None),
        "attach": (lambda: another_process(name, mode), (1, 1)),
        "takeover": (lambda: take_over(m), (1, True)), "command ls": (lambda: command("ls"), None),
        "command info": (lambda: command("info", name), None),
        "command fsck": (lambda: command("fsck", name), None),
        "command doctor": (lambda: command("doctor"), None),
        "copies": (lambda: copies(m, name), 1),
        "repair": (m.repair, None),
        "anew": (lambda: anew(m, name, mode), [1, []]),
        "unharmed": (lambda: unharmed(name), None),
    }


def use_up(name: str, mode: int) -> Any:
    """Make the map and remove it."""
    with make(name, mode) as m:
        found = [m["a"], m.check()]
        m.unlink()
    return found


def go_through(m: Any, name: str, mode: int, tell: Callable[[str], Any]) -> Outcomes:
    """Do all that a user of a map does."""
    return attempts(steps(m, name, mode), tell)


def attempts(
    work: dict[str, tuple[Callable[[], Any], Any]], tell: Callable[[str], Any]
) -> Outcomes:
    """Do every step, and tell which one comes next: a crash or a hang is that one's."""
    found: Outcomes = {}
    for step, (do, wanted) in work.items():
        tell(step)
        try:
            expect(do(), wanted)
            found[step] = "ok"
        except Exception as error:
            found[step] = f"{kind_of(error)}: {error}"[:300]
    return found


def kind_of(error: Exception) -> str:
    """Name the class; "ours" before those of the package's own."""
    ours = isinstance(error, shmmap.ShmMapError) or getattr(error, "kind", "") in dir(shmmap)
    return ("ours " if ours else "") + getattr(error, "kind", type(error).__name__)
