"""The command line: usage, streams that are closed, and nowhere to print."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from shmmap.tools import cli
from shmmap.tools.usage import INSTEAD

from ...support.engines import once
from .maps import LIMIT_S

pytestmark = once  # the same with either engine


def test_nowhere_to_print(make, tmp_path):
    """`>&-`: Python then has no sys.stdout at all."""
    m = make()
    command = f"{sys.executable} -m shmmap"
    for arguments in ("ls", f"info {m.name}", f"dump {m.name} d", "size --entries 5"):
        done = subprocess.run(
            f"{command} {arguments} >&-", shell=True, cwd=tmp_path, capture_output=True,
            timeout=LIMIT_S,
        )
        assert (done.returncode, done.stderr) == (0, b""), arguments
    assert (tmp_path / "d").stat().st_size


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_doctor_without_standard_descriptors(shell, closed):
    """What it opens does not get their numbers, which are a subprocess's pipes."""
    as_ever, done = shell("doctor"), shell(f"doctor {closed}")
    assert done.returncode == as_ever.returncode, (as_ever.stdout, done.stdout)
    if ">&-" not in closed.split():
        assert "OK    record locks" in done.stdout and done.stderr == ""


class TestUsage:
    @pytest.mark.parametrize("arguments", [
        [], ["frobnicate"], ["info"], ["info", "a.b"], ["unlink"], ["unlink", "a/b"], ["ls", "x"],
    ])
    def test_wrong_usage_is_2(self, run, arguments):
        assert run(*arguments).returncode == 2

    @pytest.mark.parametrize(("arguments", "said"), [
        (["gc"], "`prune` removes maps that nobody uses"),
        (["rename", "a", "b"], "`dump` it, and `load` it"),
        (["bench"], "`python -m bench` in a checkout"),
        (["reszie", "a"], "no command 'reszie': is it 'resize'?"),
        (["Dlete"], "`del` removes entries"), (["LS"], "is it 'ls'?"),
        (["create"], "by the program that opens it first"), (["cleanup"], "no command"),
        (["x" * 10_000], "xxx...'. For help"), (["ls", "\x1b[31m"], "\\x1b[31m"),
        (["frobnicate"], "no command 'frobnicate'. For help"),
        (["\x1b[31m"], "no command"),
        (["--frobnicate"], "--help"),
        (["resize", "a", "--shards", "x"], "shmmap resize --help"),
    ])
    def test_what_to_do_instead_is_said(self, run, arguments, said):
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr.splitlines()[-1]
        assert done.stdout == "" and "\x1b" not in done.stderr

    def test_no_command_is_there_that_there_is_not(self):
        assert not INSTEAD.keys() & set(cli.names())
        meant = {word for text in INSTEAD.values() for word in re.findall(r"`(\w+)[^`]*`", text)}
        assert meant <= {*cli.names(), "python"}

    def test_a_reader_that_has_seen_enough(self, tmp_path):
        made = subprocess.run(
            f"{sys.executable} -m shmmap doctor | true", shell=True, cwd=tmp_path,
            capture_output=True, timeout=LIMIT_S,
        )
        assert made.stderr == b""
