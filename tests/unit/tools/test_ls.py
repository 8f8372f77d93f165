"""shmmap ls: maps of other processes, of the other engine, and of the dead."""

from __future__ import annotations

import os
import re
import signal

import pytest

import shmmap
from shmmap.memory import geometry, layout
from shmmap.system import creation, segment
from shmmap.tools import cli, findings, inspection

from ...support.engines import once
from ...support.table_words import control_words, sum_up
from .maps import LIMIT_S, OTHER, K, control_file, needs_other_engine, objects, poke, row_of

pytestmark = once  # the same with either engine


class TestLs:
    def test_shows_a_live_map_with_its_figures(self, run, make, name):
        m = make(size="2MB")
        m.update({f"key-{i}": i for i in range(123)})
        made = run("ls")
        assert made.returncode == 0, made.stderr
        row = row_of(made.stdout, name)
        assert row[1:5] == ["ready", shmmap.ENGINE, str(layout.LAYOUT_VERSION), "123"]
        assert row[5:7] == findings.human(m.stats().size_bytes).split()
        assert row[-2:] == ["1", findings.user_name(os.getuid())]
        assert m.stats().workers == (os.getpid(),)  # it claimed no row

    def test_counts_what_len_counts(self, run, make, name):
        m = make()
        for i in range(20):
            m.set(i, i, ttl=60 if i % 2 else None)
        m.touch(1, 1e-6)
        while len(m) != 19:
            pass  # a microsecond of the real clock, which the command reads
        assert row_of(run("ls").stdout, name)[4] == "19"

    def test_a_map_that_is_about_to_be_replaced_is_there(self, run, make, name):
        make()["a"] = 1
        poke(name, "STATE", K["STATE_REPLACING"])  # as a replacer leaves it that was killed
        assert row_of(run("ls").stdout, name)[1] == "ready"

    @needs_other_engine
    def test_reads_maps_of_the_other_engine(self, run, hold, name):
        holder = hold(name, engine=OTHER)
        assert row_of(run("ls").stdout, name)[1:5] == [
            "ready", OTHER, str(layout.LAYOUT_VERSION), "1"]
        assert f"pid {holder.pid}" in run("info", name).stdout
        assert run("unlink", name, "--yes", f"--engine={OTHER}").returncode == 0

    def test_does_not_write_to_the_map(self, run, make, name):
        make()["a"] = 1
        before = {p: p.read_bytes() for p in objects(name)}
        assert run("ls").returncode == run("info", name).returncode == 0
        assert {p: p.read_bytes() for p in objects(name)} == before

    @pytest.mark.parametrize("field, value", [
        ("GEN0_SHARDS", 1 << 60), ("GEN0_SHARDS", 3), ("GEN0_SLOTS", 0), ("GEN0_SLOTS", 1 << 63),
        ("GEN0_SLOT_SIZE", 7), ("GEN0_BUCKETS", 1 << 40), ("ROWS", 1 << 62), ("ENGINE", 9),
        ("TABLE", 7), ("GEN0_CHECK", 7), ("BYTES", 1), ("STATE", 77), ("MAGIC", 5),
    ])
    def test_trusts_no_number(self, run, make, clean, field, value):
        make()
        poke(clean, field, value)
        made = run("ls")
        assert made.returncode == 0, made.stderr
        assert row_of(made.stdout, clean)[1] == "garbage"
        poke(clean, "STATE", K["STATE_RETIRED"])  # so that the fixture's handle only closes

    @pytest.mark.parametrize("field", [
        "CODEC", "GEN0_ON_FULL", "TTL_NS", "MODE", "GEN0_VALUE_SIZE",
    ])
    def test_any_parameter_word_can_be_shown(self, run, make, clean, field):
        make()
        poke(clean, field, (1 << 64) - 2)  # even: on_full stays "raise", the sizes stay sound
        with control_words(clean) as words:
            sum_up(words)
        made = run("info", clean)
        assert (made.returncode, made.stderr) == (0, "")

    @pytest.mark.parametrize("content", [
        b"x", b"\xff" * 100_000, b"\xff" * geometry.control_bytes(),
    ])
    def test_survives_garbage(self, run, clean, content):
        control_file(clean).write_bytes(content)
        made = run("ls")
        assert made.returncode == 0, made.stderr
        assert row_of(made.stdout, clean)[1] == "garbage"

    def test_survives_what_is_no_file(self, run, clean):
        os.mkfifo(control_file(clean))
        assert row_of(run("ls").stdout, clean)[1] == "unreadable"

    def test_survives_truncated_shards(self, run, make, name):
        m = make()
        m["a"] = 1
        shard = next(p for p in objects(name) if re.fullmatch(r"shmmap\..*\.0\.0", p.name))
        saved = shard.read_bytes()
        copy = shard.with_name(shard.name + ".saved")
        shard.rename(copy)
        try:
            shard.write_bytes(saved[:40])
            made = run("info", name)
            assert made.returncode == 0, made.stderr
            assert re.search(r"not readable +0 \(it is damaged\)", made.stdout), made.stdout
            made = run("ls")
            assert f"{name}: 1 of " in made.stdout and row_of(made.stdout, name)[4] == "?"
        finally:
            copy.rename(shard)

    def test_leftovers_are_marked(self, run, clean):
        control_file(clean).touch()
        made = run("ls")
        assert row_of(made.stdout, clean)[1:3] == ["half-made", "(leftover)"]
        assert re.search(rf"^remove .* unlink --yes .*{clean}\b", made.stdout, re.M)

    def test_a_map_that_is_being_made_is_no_leftover(self, run, clean):
        control_file(clean).touch()
        with creation.creation_lock(clean):
            assert row_of(run("ls").stdout, clean)[1] == "busy"
            assert inspection.creating_pid("some-other-name", os.geteuid()) is None

    def test_an_ephemeral_map_of_the_dead_is_a_leftover(self, run, hold, clean):
        holder = hold(clean, ephemeral=True)
        assert row_of(run("ls").stdout, clean)[1] == "ready"
        holder.send_signal(signal.SIGKILL)
        holder.wait(LIMIT_S)
        assert row_of(run("ls").stdout, clean)[1:3] == ["abandoned", "(leftover)"]
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)

    def test_says_when_there_are_none(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr(segment, "SHM_DIRECTORY", str(tmp_path))
        assert (cli.main(["ls"]), capsys.readouterr().out) == (0, "no maps\n")


class TestNamespaces:
    def test_maps_of_one_are_together(self, run, name):
        maps = [
            shmmap.ShmMap(name + end, "300KB", shards=1, namespace=space, sweep_interval=None)
            for space, end in (("shop", "-a"), ("", "-z"), ("blog", "-b"), ("shop", "-c"))
        ]
        try:
            lines = run("ls", SHMMAP_NAMESPACE="shop").stdout.splitlines()
            ours = [line.partition(" ")[0] for line in lines if name in line or not line]
            start = ours.index(f"{name}-z")
            assert ours[start:][:6] == [
                f"{name}-z", "", f"blog@{name}-b", "", f"shop@{name}-a", f"shop@{name}-c"
            ]
            assert f"map shop@{name}-a\n" in run("info", f"shop@{name}-a").stdout
            assert run("info", f"{name}-a", SHMMAP_NAMESPACE="shop").returncode == 1
            file = f"/dev/shm/{name}.dump"
            maps[0]["k"] = 1
            try:
                assert run("dump", f"shop@{name}-a", file, SHMMAP_NAMESPACE="no").returncode == 0
                done = run("load", file, f"{name}-z", SHMMAP_NAMESPACE="shop")
                assert done.returncode == 0 and f"written to {name}-z;" in done.stdout
                assert maps[1] == {"k": 1} and not objects(f"shop@{name}-z")
            finally:
                os.unlink(file)
            assert run("fsck", f"{name}-z", SHMMAP_NAMESPACE="shop").returncode == 0
            assert run("unlink", "--yes", f"shop@{name}-a").returncode == 0
            assert not objects(f"shop@{name}-a") and objects(f"shop@{name}-c")
        finally:
            for m in maps:
                m.unlink()
                m.close()

    def test_one_that_lingers(self, run, clean):
        with shmmap.ShmMap(clean, "300KB", shards=1, ephemeral=True, linger=3600) as m:
            m["a"] = 1
        said = run("ls").stdout
        assert row_of(said, clean)[1:5] == [
            "lingers", shmmap.ENGINE, str(layout.LAYOUT_VERSION), "1"]
        assert re.search(rf"^{clean}: ephemeral, left \d+ s ago: it goes in 3,[56]\d\d s", said,
                         re.M)
        assert "linger          3600 s" in run("info", clean).stdout
