"""Whose bytes are trusted: a hostile map that is sound in every byte, and one that is shared
on purpose, by a mode and owner_uid=, or by a process that changes its user.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.system import creation
from shmmap.tools import cli

from ..support.children import Child
from ..support.shard0 import GOT_IT, lock_of, token
from ..support.strangers import ATTACKER, SHM, VICTIM, as_user, outcome, stranger

AT_ONCE_S = 1.0  # on a machine that has much else to do
OWNER, FRIEND = VICTIM, 65532  # the friend is in the owner's group


class Payload:
    """A pickle that leaves a file behind, named after the user who unpickled it."""

    def __reduce__(self) -> Any:
        return _fire, ()


FIRED = SHM / "fired"  # a folder where any user may leave files


def _fire() -> str:
    (FIRED / str(os.getuid())).touch()
    return "fired"


def prepare_payloads() -> None:
    """Make the folder in the test's own /dev/shm."""
    FIRED.mkdir()
    FIRED.chmod(0o777)


def read_all(m: Any) -> Any:
    """Read a map in every way that unpickles."""
    return m.get("a"), dict(m.items()), list(m.values()), m.pop("a", None)


@pytest.mark.parametrize("mode", [0o600, 0o606, 0o660, 0o666])
@pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])
def test_a_hostile_pickle_in_a_sound_map(private, name, mode, who):
    """Refused before a byte is trusted: the payload runs for its maker only. Root gives more
    away than anyone, so it is told to say whom it trusts, too."""
    def make() -> bytes:
        m = shmmap.ShmMap.create(name, "300KB", shards=2, mode=mode)
        m["a"] = Payload()
        read_all(m)
        m["a"] = Payload()
        return pickle.dumps(m)

    ways: list[Callable[..., Any]] = [shmmap.ShmMap, shmmap.ShmMap.attach, shmmap.ShmMap.create]

    def work() -> Any:
        prepare_payloads()
        handle = as_user(ATTACKER, make)
        tries = [lambda: pickle.loads(handle)] + [
            lambda way=way, said=said: way(name, **said)
            for way in ways for said in ({}, {"mode": mode}, {"owner_uid": who})
        ]
        found = [as_user(who, lambda t=t: outcome(lambda: read_all(t()))) for t in tries]
        return found, sorted(os.listdir(FIRED)), sorted(e for e in os.listdir(SHM) if name in e)

    found, users, left = private(work)
    for error, text in found:
        assert error == "ConfigMismatch" and f"shmmap.{name}" in text, (error, text)
    assert users == [str(ATTACKER)]
    assert len(left) == 1 + 1 + 2 * (2 + 1), "the stranger's map is as it was"


@pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])
def test_the_command_line_unpickles_nothing(private, name, who):
    """Root may look at, check, repair and remove what a stranger made, and runs none of it."""
    def make() -> None:
        with shmmap.ShmMap.create(name, "300KB", shards=2, mode=0o666) as m:
            m["a"] = Payload()

    commands = (["ls"], ["info", name], ["fsck", name], ["fsck", "--repair", "--yes", name],
                ["unlink", "--yes", name])

    def work() -> Any:
        prepare_payloads()
        as_user(ATTACKER, make)
        codes = [as_user(who, lambda c=command: cli.main(c)) for command in commands]
        return codes, os.listdir(FIRED)

    assert private(work) == ([0, 0, 0, 0, 0] if who == 0 else [0, 0, 8, 8, 1], [])


def test_trust_is_said_in_so_many_words(private, name):
    """owner_uid= names whom one trusts: that user's pickles are unpickled, nobody else's."""
    def make() -> None:
        with shmmap.ShmMap.create(name, "300KB", shards=2, mode=0o666) as m:
            m["a"] = Payload()

    def work() -> Any:
        prepare_payloads()
        as_user(ATTACKER, make)
        said = {"mode": 0o666, "owner_uid": ATTACKER}
        found = as_user(VICTIM, lambda: outcome(lambda: shmmap.ShmMap(name, **said)["a"]))
        wrong = {"mode": 0o666, "owner_uid": FRIEND}
        misplaced = as_user(0, lambda: outcome(lambda: shmmap.ShmMap(name, **wrong)["a"]))
        return found, misplaced, os.listdir(FIRED)

    found, misplaced, users = private(work)
    assert found == ("", "'fired'") and misplaced[0] == "ConfigMismatch"
    assert users == [str(VICTIM)]


# -- a map shared with a group ------------------------------------------------------------------


def friends_map(name: str, **parameters: Any) -> Any:
    """Open the owner's map as a friend does."""
    return shmmap.ShmMap(name, mode=0o660, owner_uid=OWNER, lock_timeout=5, **parameters)


def live(child: Child, name: str, steps: int) -> list[Any]:
    """Own a shared map: make it, and answer what is asked, step by step."""
    m = shmmap.ShmMap(name, "300KB", shards=1, mode=0o660)
    m["owner"] = 1
    child.tell("made")
    answers = []
    for _ in range(steps):
        child.hear()
        started = time.monotonic()
        answers.append((outcome(lambda: m.set("step", 1)), time.monotonic() - started))
        child.tell(answers[-1])
    return [m.get("friend"), m.stats().takeovers, m.check()]


@pytest.fixture
def with_owner(private, name) -> Callable[..., Any]:
    """with_owner(work, steps): run work(owner) beside the owner of a shared map."""
    def run(work: Callable[[Child], Any], steps: int = 1) -> Any:
        def within() -> Any:
            owner = stranger(OWNER, lambda child: live(child, name, steps))
            try:
                owner.hear()
                return work(owner)
            finally:
                owner.kill()

        return private(within)

    return run


def as_friend(work: Callable[[], Any]) -> Any:
    """Run work() as a user of the owner's group."""
    return as_user(FRIEND, work, [OWNER])


def test_a_group_shares_a_map(with_owner, name):
    """Everything works both ways, and the death of a friend with the lock holds nobody up."""
    def use() -> Any:
        m = friends_map(name)
        m["friend"] = m["owner"] + 1
        m.set("short", 1, ttl=60)
        return m.incr("n"), m.pop("short"), m.check(), m.sweep().busy_shards

    def die(child: Child) -> None:
        m = friends_map(name)
        assert lock_of(m).lock(token(m), 10**9) in GOT_IT
        os.kill(os.getpid(), signal.SIGKILL)

    def work(owner: Child) -> Any:
        used = as_friend(use)
        dying = stranger(FRIEND, die, [OWNER])
        dying.reap()
        owner.tell("write")
        return used, owner.hear(), owner.result()

    used, (wrote, seconds), after = with_owner(work)
    assert used == (1, 1, [], 0)
    assert wrote == ("", "None") and seconds < AT_ONCE_S
    assert after == [2, 1, []]


def test_nobody_outside_the_group(with_owner, name):
    def work(owner: Child) -> Any:
        return as_user(FRIEND, lambda: outcome(lambda: friends_map(name)))  # not in the group

    error, text = with_owner(work)
    assert error == "ConfigMismatch" and "may not be opened" in text


def test_only_its_owner_unlinks_a_map(with_owner, name):
    """A sticky /dev/shm lets nobody else: so that is said before anything is marked."""
    def work(owner: Child) -> Any:
        error, text = as_friend(lambda: outcome(lambda: friends_map(name).unlink()))
        owner.tell("still there?")
        return error, text, owner.hear()[0], as_friend(lambda: outcome(lambda: friends_map(name)))

    error, text, still, friend = with_owner(work)
    assert error in ("PermissionError", "ConfigMismatch") and f"uid {OWNER}" in text, (error, text)
    assert still == ("", "None") and friend[0] == ""


def test_a_friend_makes_no_map_in_the_owners_name(private, name):
    """owner_uid= means that user's map. Where there is none, none is made or left."""
    def work() -> Any:
        found = [
            as_friend(lambda way=way: outcome(lambda: way(name, "300KB", owner_uid=OWNER)))
            for way in (shmmap.ShmMap, shmmap.ShmMap.create, shmmap.ShmMap)
        ]
        left = [e for e in os.listdir(SHM) if name in e]
        return found, left, as_user(OWNER, lambda: outcome(lambda: shmmap.ShmMap(name, "300KB")))

    found, left, owner = private(work)
    assert {error for error, _ in found} == {"MapNotFound"} and left == []
    assert all(str(OWNER) in text for _, text in found)
    assert owner[0] == ""


def test_a_friend_beside_a_map_that_its_owner_left_half_made(private, name):
    """Only its owner may replace it: to anyone else there is no map."""
    def die() -> None:
        m = shmmap.ShmMap(name, "300KB", shards=2, mode=0o660)
        m.attachment.control.STATE = 0
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> Any:
        child = stranger(OWNER, lambda child: die())
        child.reap()
        return as_friend(lambda: outcome(lambda: friends_map(name)))

    assert private(work)[0] == "MapNotFound"


# -- a process that changes its user ------------------------------------------------------------


def in_a_worker(work: Callable[[], Any]) -> Any:
    """Run work() as gunicorn's --user does: forked by root, then another user, nothing reset."""
    def within(child: Child) -> Any:
        os.setgroups([])
        os.setgid(VICTIM)
        os.setuid(VICTIM)
        return work()

    return Child(within).end()


def test_creations_queue_with_those_of_the_new_user(private, name):
    """Not under the lock of the user that the process was: two would create at once."""
    def wait() -> Any:
        with creation.creation_lock(name, 0.2):
            return "not excluded"

    def hold(child: Child) -> None:
        with creation.creation_lock(name):
            child.tell("held")
            child.hear()

    def work() -> Any:
        shmmap.ShmMap("before", "300KB").close()  # as root
        holder = stranger(VICTIM, hold)
        try:
            holder.hear()
            return in_a_worker(lambda: outcome(wait))
        finally:
            holder.kill()

    assert private(work)[0] == "LockTimeout"


def test_a_map_opened_before_the_change(private, name):
    """It goes on; what needs its files' names is refused with a reason."""
    def use(m: Any) -> Any:
        m["b"] = m["a"] + 1
        error, text = outcome(lambda: m.set("c", 3, ttl=60))
        unlinked = outcome(m.unlink)[0]
        return m["b"], m.incr("n"), m.check(), (error, text), unlinked, outcome(m.close)

    def work() -> Any:
        m = shmmap.ShmMap(name, "300KB", shards=1)
        m["a"] = 1
        return in_a_worker(lambda: use(m)), m["b"], m.stats().takeovers

    (value, count, problems, (error, text), unlinked, closed), seen, takeovers = private(work)
    assert (value, count, problems, seen, takeovers) == (2, 1, [], 2, 0)
    assert error in ("", "ConfigMismatch") and (not error or "user" in text), (error, text)
    assert unlinked in ("PermissionError", "ConfigMismatch") and closed == ("", "None")


def test_a_first_ttl_after_the_files_were_removed(private, name):
    """Somebody cleaned /dev/shm by hand: that is a map unlinked, not an error of its own."""
    def work() -> Any:
        m = shmmap.ShmMap(name, "300KB", shards=1, on_unlinked="raise")
        m["a"] = 1
        for entry in os.listdir(SHM):
            os.unlink(SHM / entry)
        first = outcome(lambda: m.set("a", 2, ttl=60))
        return first[0], outcome(lambda: m["a"])[0], outcome(m.check)[0]

    first, read, checked = private(work)
    assert first in ("", "MapUnlinked") and checked == "MapUnlinked", (first, read, checked)
