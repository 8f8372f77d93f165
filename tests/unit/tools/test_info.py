"""shmmap info, and what looks at a map from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shmmap.lifecycle import control
from shmmap.memory import layout
from shmmap.system import creation, flavours, segment
from shmmap.tools import inspection

from .maps import LIMIT_S, K, control_file, poke


class TestInfo:
    def test_shows_parameters_workers_and_balance(self, run, make, hold, name):
        m = make(size="2MB", ttl=7.5, on_full="evict", codec="safe", shards=4)
        holder = hold(name, size=None)
        m.update({i: i for i in range(100)})
        assert m[0] == 0 and m.get("none") is None
        m.sweep()
        made = run("info", name)
        assert made.returncode == 0, made.stderr
        shown = dict(re.findall(r"^  (\S.{0,15}?) {2,}(.*)$", made.stdout, re.M))
        assert shown["ttl"] == "7.5 s" and shown["on_full"] == "evict" and shown["codec"] == "safe"
        assert shown["shards"] == "4" and shown["entries"] == "101" and shown["sweeps"] == "1"
        assert (shown["writes"], shown["hits"], shown["misses"]) == ("101", "1", "1")
        counts = sorted(m.stats().shard_entries)
        assert f"least {counts[0]} " in shown["balance"]
        assert f"most {counts[-1]} " in shown["balance"]
        for pid in (os.getpid(), holder.pid):
            assert re.search(rf"pid {pid}  \S+", made.stdout)

    @pytest.mark.parametrize("namespace", ["ours", "another"])
    def test_a_worker_is_shown_while_it_lives(self, run, make, hold, name, namespace):
        m = make()
        holder = hold(name)
        if namespace == "another":  # /proc is no witness: the lock of its row alone tells
            row, = (row for row, pid in m.attachment.worker.rows_in_use() if pid == holder.pid)
            poke(name, "BYTES_TOTAL", 1, row * K["R_BYTES_TOTAL"] + K["R_PID_NAMESPACE"])
        assert f"pid {holder.pid}" in run("info", name).stdout
        holder.kill()
        holder.wait(LIMIT_S)
        assert f"pid {holder.pid}" not in run("info", name).stdout

    def test_no_such_map(self, run, name):
        made = run("info", name)
        assert made.returncode == 1
        assert name in made.stderr

    def test_what_is_not_ready_is_explained(self, run, make, clean):
        make()
        poke(clean, "LAYOUT", layout.LAYOUT_VERSION + 1)
        later = flavours.OWN._replace(layout=layout.LAYOUT_VERSION + 1)
        file = Path(segment.SHM_DIRECTORY + segment.control_name(clean, later))
        control_file(clean).rename(file)
        made = run("info", clean)
        assert made.returncode == 1
        assert "made by another version" in made.stderr
        file.rename(control_file(clean))
        assert "contradicts its name" in run("info", clean).stderr
        poke(clean, "LAYOUT", layout.LAYOUT_VERSION)


class TestInspection:
    def test_a_creation_that_ends_meanwhile_is_no_leftover(self, make, clean, monkeypatch):
        control_file(clean).touch()
        monkeypatch.setattr(inspection, "creating_pid", lambda *_: make().clear())
        assert [seen.state for seen in inspection.find_maps(clean)] == ["ready"]

    def test_an_unlink_that_ends_meanwhile_leaves_nothing(self, make, clean, monkeypatch):
        m = make()
        poke(clean, "STATE", K["STATE_RETIRED"])
        monkeypatch.setattr(
            inspection, "creating_pid", lambda *_: control.remove_objects(m.name).get("creator")
        )
        assert inspection.find_maps(clean) == []

    @pytest.mark.parametrize("creator, state", [(None, "abandoned"), (1, "busy")])
    def test_an_ephemeral_map_in_the_making(self, make, name, monkeypatch, creator, state):
        make(ephemeral=True)
        monkeypatch.setattr(inspection, "_live_workers", lambda *_: ((), ""))  # none joined yet
        monkeypatch.setattr(inspection, "creating_pid", lambda *_: creator)
        monkeypatch.setattr(inspection, "_is_held", lambda *_: False)  # though this process has it
        assert [seen.state for seen in inspection.find_maps(name)] == [state]

    def test_looking_at_ones_own_map_keeps_its_liveness_lock(self, make, name, tmp_path):
        m = make()
        row = m.attachment.worker.row
        assert [w.pid for w in inspection.find_maps(name)[0].workers or ()] == [os.getpid()]
        script = (
            "import os, sys; from shmmap.system import record_lock, worker_table as workers\n"
            "print(record_lock.lock_holder(\n"
            "    os.open(sys.argv[1], os.O_RDWR), workers.row_byte(int(sys.argv[2]))))"
        )
        live = segment.SHM_DIRECTORY + segment.liveness_name(name, m.attachment.nonce)
        command = [sys.executable, "-c", script, live, str(row)]
        seen = subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S, text=True)
        assert seen.strip() == str(os.getpid())

    def test_asks_for_the_byte_that_creation_locks(self, tmp_path):
        """The formula is written twice, because asking must not take the lock."""
        script = (
            "import os; from shmmap.tools import inspection; "
            "print(inspection.creating_pid('probe', {}))"
        )
        command = [sys.executable, "-c", script.format(os.geteuid())]
        said = []
        with creation.creation_lock("probe"):
            said += subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S).split()
        said += subprocess.check_output(command, cwd=tmp_path, timeout=LIMIT_S).split()
        assert said == [str(os.getpid()).encode(), b"None"]
