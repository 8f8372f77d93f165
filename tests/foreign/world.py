"""One encounter: a /dev/shm of its own, our map in it, and a real second user with a deed.

What is expected, by the map's mode:
- 0600: nothing that a stranger does harms or hangs anything. Every step of ours gives what it
  should. (A name that was taken before we came is told as an error of ours.)
- 0660 to a member of the group, 0666 to everybody: whoever may write is trusted with the map. Our
  side may get any error of ours, or a wrong value of that map, but it neither crashes nor hangs,
  and nothing else is harmed: other maps, files, the terminal.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import shmmap

from ..support.children import Child
from ..support.strangers import ATTACKER, SHM, VICTIM, enter_own_shm, stranger
from . import deeds, victim

NAME = "theirs-or-mine"
# Of the longest step: a wait of lock_timeout for each of several things, on a busy machine.
STEP_LIMIT_S = 30.0
_OURS = re.compile(r"(?:sem\.)?shmmap\.(?!" + NAME + r"-).*")
_HEX = re.compile(r"[0-9a-f]{16}")


class Surprise(NamedTuple):
    """What nobody may bring about."""

    mode: int
    about: str
    deed: str
    what: str

    def __str__(self) -> str:
        return f"0o{self.mode:o}, {self.about}, {self.deed}: {' '.join(self.what.split())}"[:300]


class NotPermitted(Exception):
    """This machine gives no second user, or no /dev/shm of one's own."""


def role(entry: str) -> str:
    """Name an object by what does not change from run to run."""
    return _HEX.sub("NONCE", entry)


def our_objects() -> dict[str, Path]:
    """List what is there of ours, whatever it is: by role."""
    return {role(entry): SHM / entry for entry in sorted(os.listdir(SHM)) if _OURS.fullmatch(entry)}


def groups_of(mode: int) -> tuple[int, ...]:
    return (VICTIM,) if mode & 0o060 else ()


def inside(work: Callable[[], Any]) -> Any:
    """Run work() in a child with a /dev/shm of its own."""
    def within(child: Child) -> Any:
        return work() if enter_own_shm("16m") else "not permitted"

    if os.geteuid() != 0:
        raise NotPermitted
    child = Child(within)
    try:
        found = child.result(60)
    finally:
        child.kill()
    if found == "not permitted":
        raise NotPermitted
    return found


def live(child: Child, mode: int, makes: bool) -> Any:
    """Be the victim: make the map, wait for the deed, do everything."""
    victim.have_a_file()
    if makes:
        victim.have_a_map(NAME)
        m = victim.make(NAME, mode)
    child.tell("made")
    child.hear()
    if makes:
        return victim.go_through(m, NAME, mode, child.tell)
    found = victim.attempts({
        "make another": (lambda: victim.have_a_map(NAME), None),
        "make": (lambda: victim.use_up(NAME, mode), [1, []]),
        **{f"command {command[0]}": (lambda c=command: victim.command(*c), None)
           for command in (("ls",), ("info", NAME), ("fsck", NAME), ("doctor",))},
    }, child.tell)
    return found | victim.attempts({"unharmed": (
        lambda: victim.unharmed(NAME if found["make another"] == "ok" else ""), None)}, child.tell)


def act(child: Child, deed: Callable[[Any], Any], target: Any) -> str:
    """Be the stranger: do the deed, and stay."""
    try:
        kept = deed(target)
    except (OSError, ValueError) as error:
        child.tell(f"refused: {error}")
    else:
        child.tell("done")
    child.hear(60)
    return repr(kept)[:10]


def follow(ours: Child) -> tuple[str, victim.Outcomes | str]:
    """Hear the victim's steps; give the last, and the outcomes or what became of it."""
    step = "make"
    while True:
        try:
            heard = ours.hear(STEP_LIMIT_S)
        except TimeoutError:
            return step, f"hangs for {STEP_LIMIT_S:.0f} s"
        except EOFError:
            status = ours.reap()
            return step, f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else \
                f"ended with {status >> 8}"
        except Exception as error:
            return step, f"{type(error).__name__}: {error}"
        if isinstance(heard, dict):
            return step, heard
        step = heard


def encounter(mode: int, makes: bool, attack: Callable[[int], Callable[[Child], Any]],
              groups: tuple[int, ...] = ()) -> tuple[Any, str, victim.Outcomes | str]:
    """Have our side wait while the stranger does what `attack` gives for its pid, and then go on;
    give what the stranger told, and how our side fared."""
    def work() -> Any:
        ours = stranger(VICTIM, lambda child: live(child, mode, makes))
        theirs = None
        try:
            ours.hear()
            theirs = stranger(ATTACKER, attack(ours.pid), groups)
            done = theirs.hear()
            ours.tell("go on")
            return done, *follow(ours)
        finally:
            for child in (ours, theirs):
                if child is not None:
                    child.kill()

    found: tuple[Any, str, victim.Outcomes | str] = inside(work)
    return found


def meet(mode: int, about: str, deed_name: str, deed: Callable[[Any], Any],
         before: bool = False) -> tuple[str, list[Surprise]]:
    """Have one encounter, with an object by its role, "process", "folder", or (`before`) a name;
    give whether the deed was done, and what nobody should have been able to bring about."""
    def attack(pid: int) -> Callable[[Child], Any]:
        target: Any = {"process": pid, "folder": SHM}.get(about) or (
            SHM / about if before else our_objects()[about])
        return lambda child: act(child, deed, target)

    done, step, outcomes = encounter(mode, not before, attack, groups_of(mode))
    return done, list(judge(mode, about, deed_name, done, step, outcomes, before))


def judge(mode: int, about: str, deed: str, done: str, step: str,
          outcomes: victim.Outcomes | str, before: bool) -> Any:
    """List the surprises of one encounter."""
    trusted = mode & 0o022 and done == "done" and about not in ("folder", "process")
    if isinstance(outcomes, str):
        as_told = outcomes == f"ended by signal {signal.SIGBUS}" and shmmap.ENGINE == "pure"
        if not (trusted and as_told and deed.startswith("truncate")):  # README says that it does
            yield Surprise(mode, about, deed, f"{step}: {outcomes}")
        return
    for step, outcome in outcomes.items():
        allowed = outcome == "ok" or (step != "unharmed" and not step.startswith("command") and (
            (trusted and outcome.startswith(("ours ", "AssertionError", "KeyError")))
            or (before and outcome.startswith("ours "))
            or (about == "folder" and outcome.startswith(("ours SharedMemoryFull", "OSError")))
        ))
        if not allowed:
            yield Surprise(mode, about, deed, f"{step}: {outcome}")


def roles(mode: int = 0o600) -> list[str]:
    """List the objects that a map of ours, and its user, have."""
    def work() -> Any:
        ours = stranger(VICTIM, lambda child: live(child, mode, True))
        try:
            ours.hear()
            return sorted(our_objects())
        finally:
            ours.kill()

    return list(inside(work))


def try_everything_closed() -> tuple[int, list[Surprise]]:
    """Try each deed with each object of a private map, one after the other, and only then see
    how our side does: all that is not refused is named."""
    def attack(child: Child, pid: int) -> Any:
        done = []
        for about, path in our_objects().items():
            for name, deed in deeds.FILE_DEEDS.items():
                done.append((about, name, _refusal(lambda d=deed, p=path: d(p))))
        for name, deed in deeds.PROCESS_DEEDS.items():
            done.append(("process", name, _refusal(lambda d=deed: d(pid))))
        child.tell(done)
        child.hear(60)

    done, step, outcomes = encounter(
        0o600, True, lambda pid: lambda child: attack(child, pid))
    found = [Surprise(0o600, about, name, "was not refused")
             for about, name, refusal in done if not refusal]
    found += judge(0o600, "all", "all", "done", step, outcomes, False)
    return len(done), found


def _refusal(deed: Callable[[], Any]) -> str:
    try:
        deed()
    except OSError as error:
        return str(error) or "refused"
    return ""

