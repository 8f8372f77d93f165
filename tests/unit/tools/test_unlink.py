"""shmmap unlink: what it removes, what it asks first, and what it leaves to others."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import shmmap
from shmmap.system import segment

from .maps import (
    LIMIT_S,
    OTHER,
    K,
    control_file,
    needs_other_engine,
    objects,
    poke,
    read_line,
    row_of,
)


def test_unlink_with_no_stdin_to_ask(shell, hold, clean):
    hold(clean)
    done = shell(f"unlink {clean} <&-")
    assert done.returncode == 1 and "say --yes" in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    done = shell(f"unlink {clean} <&- 2>&-")  # what cannot be said is not said elsewhere
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def ask(process: subprocess.Popen[str], key: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{key}\n")
    process.stdin.flush()
    return read_line(process)


class TestUnlink:
    def test_removes_a_map_that_nobody_uses(self, run, hold, name):
        holder = hold(name)
        holder.kill()
        holder.wait(LIMIT_S)
        assert objects(name)
        assert run("unlink", name).returncode == 0
        assert not objects(name)

    def test_refuses_a_map_in_use_unless_told(self, run, hold, name):
        holder = hold(name, on_unlinked="raise")
        refused = run("unlink", name)
        assert refused.returncode == 1
        assert "--yes" in refused.stderr and str(holder.pid) in refused.stderr
        assert ask(holder, "held") == "1"
        assert run("unlink", name, "--yes").returncode == 0
        assert not objects(name)
        assert ask(holder, "held") == "MapUnlinked"

    @needs_other_engine
    def test_tells_workers_of_the_other_engine(self, run, hold, name):
        holder = hold(name, engine=OTHER, on_unlinked="raise")
        assert run("unlink", name, "--yes").returncode == 1, "it is not this engine's"
        assert run("unlink", name, "--yes", f"--engine={OTHER}").returncode == 0
        assert ask(holder, "held") == "MapUnlinked"

    @pytest.mark.parametrize("answer, code", [("y", 0), ("n", 1), ("", 1), ("\x04", 1)])
    def test_asks_on_a_terminal(self, hold, name, tmp_path, answer, code):
        hold(name)
        ours, theirs = pty.openpty()
        try:
            os.write(ours, f"{answer}\n".encode())
            made = subprocess.run(
                [sys.executable, "-m", "shmmap", "unlink", name], cwd=tmp_path, stdin=theirs,
                capture_output=True, timeout=LIMIT_S,
            )
        finally:
            os.close(ours)
            os.close(theirs)
        assert made.returncode == code, made
        assert bool(objects(name)) == bool(code)

    @pytest.mark.parametrize("state", ["MAKING", "RETIRED"])
    def test_removes_half_made_and_retired_maps(self, run, make, clean, state):
        m = make(on_unlinked="raise")
        poke(clean, "STATE", K[f"STATE_{state}"])
        assert "(leftover)" in row_of(run("ls").stdout, clean)
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)
        with pytest.raises(shmmap.MapUnlinked):
            m.get("a")

    def test_removes_parts_without_a_control_segment(self, run, make, clean):
        make()
        control_file(clean).unlink()
        assert row_of(run("ls").stdout, clean)[1:3] == ["parts", "(leftover)"]
        assert run("unlink", clean).returncode == 0
        assert not objects(clean)

    def test_garbage_is_removed_only_when_told(self, run, clean):
        control_file(clean).write_bytes(b"?" * 1000)
        assert run("unlink", clean).returncode == 1
        assert run("unlink", clean, "--yes").returncode == 0
        assert not objects(clean)

    def test_several_names_and_one_that_is_not_there(self, run, clean):
        control_file(clean).touch()
        made = run("unlink", f"{clean}-no", clean)
        assert made.returncode == 1
        assert f"{clean}-no" in made.stderr
        assert not objects(clean)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
    def test_of_another_user(self, run, clean, tmp_path):
        control_file(clean).touch()
        owner = 20_000 + os.getpid() % 20_000  # other test runs have another one
        os.chown(control_file(clean), owner, owner)
        tmp_path.chmod(0o755)
        script = (
            "import os, sys, shmmap.tools.cli\n"
            "os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
            "sys.exit(shmmap.tools.cli.main(sys.argv[1:]))"
        )
        made = subprocess.run(
            [sys.executable, "-c", script, "unlink", "--yes", clean], cwd=tmp_path, text=True,
            capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
        )
        assert made.returncode == 1
        assert "another user" in made.stderr
        creators = Path(segment.SHM_DIRECTORY) / f"shmmap.{owner}.creators"
        try:
            assert run("unlink", clean).returncode == 0  # root may, under the owner's lock
            assert creators.stat().st_uid == owner
        finally:
            creators.unlink(missing_ok=True)
        assert not objects(clean)
