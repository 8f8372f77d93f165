"""Static probes (USDT): which there are, and that each fires, with what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import _engine
from shmmap.memory.geometry import LOCK_NUMBER
from shmmap.operations import _care_cy
from shmmap.tools import doctor

from ..support.static_probes import PROBES, caught, file_of, notes_of, why_no_gdb

PAGE = Path(__file__).resolve().parents[2] / "docs/guide/probes.md"
compiled = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the pure engine has no probes")
built = pytest.mark.skipif(not _care_cy.HAS_PROBES, reason="built without <sys/sdt.h>")


@compiled
def test_the_compiled_files_have_the_probes_that_they_say():
    found = {(module, note) for module in _engine.MODULES for note in notes_of(file_of(module))}
    assert {note.provider for _, note in found} <= {"shmmap"}
    said = {(name, *where) for name, where in PROBES.items()} if _care_cy.HAS_PROBES else set()
    assert {(note.name, module, note.arguments) for module, note in found} == said
    assert all(note.semaphore for _, note in found), "one whose arguments are always computed"


def test_doctor_says_whether_there_are_probes():
    (line,) = doctor.check_probes()
    assert (line.status, line.about) == ("OK", "probes")
    assert line.text.startswith("yes" if _care_cy.HAS_PROBES else "no")
    if shmmap.ENGINE == "pure":
        assert not _care_cy.HAS_PROBES and line.text == "no: the pure engine has none"


def test_the_page_has_them_all():
    text = PAGE.read_text()
    tables = dict(re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", text, re.M))
    assert {name: len(said.split(", ")) for name, said in tables.items()} == {
        name: count for name, (_, count) in PROBES.items()
    }
    for name, script in re.findall(r"shmmap:(\w+) *\{(.*)\}", text):
        assert all(int(n) < PROBES[name][1] for n in re.findall(r"\barg(\d+)", script)), script


# -- firing ---------------------------------------------------------------------------------

HEAD = """
import json, os, sys, time
import shmmap
from tests.support.children import Children
from tests.support.clocks import FrozenClock
from tests.support.shard0 import lock_of, set_word, token, word

def facts(m, **more):
    print("FACTS", json.dumps({"map": m.attachment.nonce, "own": os.getpid(), **more}), flush=True)

def hold_and_die(child):
    lock_of(m).lock(token(m), 10**9)
    set_word(m, "DIRTY", 1)
    os._exit(0)

def hold_until_told(child):
    lock_of(m).lock(token(m), 10**9)
    child.tell("held")
    child.hear()
    lock_of(m).unlock()

children = Children()
"""


@pytest.fixture
def fire(name: str, tmp_path: Path) -> Any:
    """Run code that uses a map `m` of one shard; return what fired, and the facts it told."""
    import json

    if reason := why_no_gdb():
        pytest.skip(reason)

    def run(code: str, made: str = 'size="1MB"') -> tuple[dict[str, list[list[int]]], Any]:
        text = f"{HEAD}\nm = shmmap.ShmMap(sys.argv[1], shards=1, sweep_interval=None, {made})\n"
        fired, said = caught(f"{text}{code}\n", tmp_path, name)
        for values in fired.values():
            for one in values:
                one[-1] %= 2**64  # gdb has no format for long numbers without a sign
        (line,) = re.findall(r"^FACTS (.*)$", said, re.M)
        return fired, json.loads(line)

    return run


def others(fired: dict[str, list[list[int]]], *names: str) -> list[str]:
    """List what fired beside these."""
    return [name for name, times in fired.items() if times and name not in names]


@built
def test_nothing_fires_where_nothing_happens(fire):
    fired, _ = fire("""
m["a"] = 1
assert m.get("a") == 1 and m.get("b") is None and m.incr("n") == 1
del m["a"]
facts(m)
""")
    assert others(fired) == []


@built
def test_an_eviction(fire):
    fired, said = fire("""
bytes_each = len("key-0000") + 100
for n in range(2000):
    m[f"key-{n:04}"] = b"x" * 100
facts(m, evicted=m.stats().evicted, bytes=bytes_each)
""", 'capacity=1000, value_size=128, on_full="evict"')
    assert len(fired["evict"]) == said["evicted"] > 500
    assert len({evicted for _, evicted, _, _ in fired["evict"]}) > 500
    assert {(shard, size, where) for shard, _, size, where in fired["evict"]} == {
        (0, said["bytes"], said["map"])
    }
    assert others(fired, "evict") == []


@built
def test_a_sweep(fire):
    fired, said = fire("""
clock = FrozenClock(m)
for n in range(300):
    m.set(n, n, ttl=5)
clock.advance(10)
facts(m, expired=m.sweep().expired)
""")
    assert said["expired"] == 300
    swept = [one for one in fired["sweep"] if one[0] == 0]
    assert sorted(removed for _, removed, _, _ in swept)[-2:] == [44, 256]  # LIMIT of one hold
    assert all(0 < ns < 10**9 and where == said["map"] for _, _, ns, where in swept)
    assert others(fired, "sweep") == []


@built
def test_a_takeover_and_the_repair_of_what_it_left(fire):
    fired, said = fire("""
m["a"] = 1
child = children(hold_and_die)
child.reap()
m["a"] = 2
facts(m, pid=child.pid)
""", 'size="1MB", lock_timeout=10')
    ((shard, pid, waited_ns, where),) = fired["takeover"]
    assert (shard, pid, where) == (0, said["pid"], said["map"]) and 0 < waited_ns < 10**10
    assert fired["lock__wait"] == [[0, waited_ns, said["pid"], said["map"]]]
    ((shard, dirty, took_ns, where),) = fired["repair"]
    assert (shard, dirty, where) == (0, 1, said["map"]) and 0 < took_ns < 10**10
    assert others(fired, "takeover", "lock__wait", "repair") == []


@built
def test_a_repair_on_request(fire):
    fired, said = fire('m["a"] = 1; m.repair(); facts(m)')
    assert [(one[0], one[1], one[3]) for one in fired["repair"]] == [
        (0, 0, said["map"]), (LOCK_NUMBER, 0, said["map"])
    ]


@built
def test_a_wait_and_one_in_vain(fire):
    fired, said = fire("""
import threading
m["a"] = 1
child = children(hold_until_told)
child.hear()
try:
    m["a"] = 2
except shmmap.LockTimeout:
    pass
threading.Timer(0.02, child.tell, ("enough",)).start()
m["a"] = 3
child.reap()
facts(m, pid=child.pid)
""", 'size="1MB", lock_timeout=0.1')
    assert fired["lock__timeout"] == [[0, 10**8, said["pid"], said["map"]]]
    ((shard, waited_ns, pid, where),) = fired["lock__wait"]
    assert (shard, pid, where) == (0, said["pid"], said["map"])
    assert 10**6 < waited_ns < 10**8
    assert others(fired, "lock__timeout", "lock__wait") == []
