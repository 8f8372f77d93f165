"""Every command of the command line: on a map that four processes write to, and on a damaged one.

No command may end in a traceback or not at all, keep a writer from going on, or harm the map. A
new command needs an entry in COMMANDS.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shmmap
from shmmap.tools import cli

from ...support.damage import Damage
from ...support.engines import once
from .maps import LIMIT_S

pytestmark = once  # the same with either engine
WRITERS = 4
SEED = 20261


class Run(NamedTuple):
    """How a command is run: MAP stands for the map's name, DUMP for a dump of it, NEW for a file.

    Attributes:
        words: behind the command's name.
        live, damaged: which exit codes are right; None: it looks at no such map.
        begins: what it prints first, where it goes on until Ctrl+C.
    """

    words: str
    live: tuple[int, ...] = (0,)
    damaged: tuple[int, ...] | None = (0, 1)
    begins: str = ""


COMMANDS = {
    "ls": Run(""),
    "info": Run("MAP"),
    "stats": Run("MAP"),
    "workers": Run("MAP"),
    "get": Run("MAP kept"),
    "keys": Run("MAP"),
    "scan": Run("MAP"),
    "ttl": Run("MAP kept"),
    "top": Run("MAP --plain --count 2 --interval 0.2"),
    "ui": Run("MAP --listen 127.0.0.1:0", (130,), (130,), begins="http://"),
    "watch": Run("MAP w0", (130,), (1, 130), begins="w0"),
    "events": Run("MAP"),
    "locks": Run("MAP --key kept"),
    "tier": Run("MAP", (1,)),  # it is none
    "metrics": Run("MAP"),
    "check": Run("MAP"),
    "fsck": Run("MAP --repair --yes", (0,), (0, 1, 4, 5, 8)),
    "set": Run("MAP set there"),
    "del": Run("MAP kept"),
    "touch": Run("MAP kept --ttl 60"),
    "clear": Run("MAP --yes"),
    "sweep": Run("MAP"),
    "unlink": Run("MAP --yes", (0,), (0,)),
    "prune": Run("--dry-run"),  # others may be testing
    "dump": Run("MAP NEW"),
    "load": Run("DUMP MAP"),
    "resize": Run("MAP --size=2MB"),
    "replace": Run("MAP --size=2MB"),
    "migrate": Run("MAP", (1,)),  # there is no other map of that name
    "gates": Run("MAP"),
    "size": Run("--entries 100", (0,), None),
    "torture": Run("--minutes 0.01", (0,), None),
    "doctor": Run(""),
    "completion": Run("bash", (0,), None),
}
of_damaged_maps = [name for name, one in COMMANDS.items() if one.damaged is not None]


def test_every_command_is_here():
    assert list(COMMANDS) == [one.name for one in cli.COMMANDS]


def run(name: str, m: Any, folder: Path) -> tuple[int, str]:
    """Run a command; return its exit code, and all that it printed."""
    places = {"MAP": m.name, "DUMP": str(folder / "dump"), "NEW": str(folder / "new")}
    how = COMMANDS[name]
    words = [places.get(word, word) for word in how.words.split()]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "shmmap", name, *words], cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        first = ""
        if how.begins:
            assert process.stdout is not None
            first = process.stdout.readline()  # "": it has ended
            process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in first + rest, first + rest
    return process.returncode, first + rest


def write(name: str, number: int) -> Any:
    """Make a child's work: write a number until it is told to end; return how often it did."""
    def work(child: Any) -> int:
        with shmmap.ShmMap(name, size="1MB", sweep_interval=None) as m:
            written = 0
            while written < 100 or not child.is_told():
                written += 1
                time.sleep(0.0005)  # the command is to have a processor, too
                m[f"w{number}"] = written
                m[f"w{number}-{written % 50}"] = os.urandom(20)
                if written == 1:
                    child.tell("at it")
            assert m[f"w{number}"] == written
            return written

    return work


@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_map_that_is_written_to(command, make, start, tmp_path):
    m = make()
    m["kept"] = 1
    m.dump(tmp_path / "dump")
    writers = [start(write(m.name, number)) for number in range(WRITERS)]
    for writer in writers:
        assert writer.hear() == "at it"
    code, said = run(command, m, tmp_path)
    assert code in COMMANDS[command].live, said
    for writer in writers:
        writer.tell("end")
        assert writer.result(LIMIT_S) >= 100
    assert m.check() == [] and m["w0"] >= 100


@pytest.mark.parametrize("command", of_damaged_maps)
def test_on_a_damaged_map(command, make, tmp_path):
    m = make(shards=2)
    m["kept"] = 1
    m.dump(tmp_path / "dump")
    m.update({f"k{number}": number for number in range(200)})
    rng = random.Random(SEED)
    for shard in range(2):
        damage = Damage(m, shard)
        start = damage.areas.slots
        for at in rng.sample(range(start, start + 20_000), 2_000):
            damage.octets[at] = rng.randrange(256)
    code, said = run(command, m, tmp_path)
    assert code in COMMANDS[command].damaged, (SEED, said)
    assert code == 0 or said, SEED
