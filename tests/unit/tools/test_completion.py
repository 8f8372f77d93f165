"""shmmap completion: scripts that real shells complete with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shmmap
from shmmap.tools import cli, completion

from ...support.engines import once
from .maps import LIMIT_S

pytestmark = once
TAKEN = completion.commands_of(cli.make_parser())
Complete = Callable[..., set[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment that has a command `shmmap`, and no user's own settings."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "shmmap"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m shmmap "$@"\n')
    command.chmod(0o755)
    (tmp_path / "a-file.dump").touch()
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path),
            "TERM": "dumb", "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.isascii()
    return said.out


def in_shell(
    command: list[str], text: str, folder: Path, environment: dict[str, str]
) -> list[str]:
    """Run a program of a shell; return the lines that it printed."""
    made = subprocess.run([*command, text], cwd=folder, env=environment, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
    assert made.returncode == 0 and made.stderr == "", made
    return made.stdout.splitlines()


BASH = """
{script}
COMP_LINE='{line}'
COMP_POINT=${{#COMP_LINE}}
_shmmap
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def bash(environment, tmp_path, capsys) -> Complete:
    """Complete the last of some words in bash."""
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    text = script("bash", capsys)

    def complete(*words: str) -> set[str]:
        program = BASH.format(script=text, line=" ".join(words))
        return set(in_shell(["bash", "--norc", "-c"], program, tmp_path, environment)) - {""}

    return complete


@pytest.fixture
def fish(environment, tmp_path, capsys) -> Complete:
    """Complete the last of some words in fish."""
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    text = script("fish", capsys)

    def complete(*words: str) -> set[str]:
        program = f"{text}\ncomplete -C '{' '.join(words)}'"
        lines = in_shell(["fish", "--no-config", "-c"], program, tmp_path, environment)
        return {line.split("\t")[0] for line in lines}

    return complete


@pytest.fixture(params=["bash", "fish"])
def complete(request) -> Complete:
    """Complete the last of some words in a shell."""
    found: Complete = request.getfixturevalue(request.param)
    return found


def test_commands(complete):
    names = {one.name for one in TAKEN}
    assert names <= complete("shmmap", "")
    assert complete("shmmap", "wo") == {"workers"}
    assert complete("shmmap", "re") == {"resize", "replace"}


def test_options(complete):
    assert complete("shmmap", "scan", "--pre") == {"--prefix"}
    assert {"--json", "--limit", "--unpickle", "--engine"} <= complete("shmmap", "scan", "--")
    assert "--unpickle" not in complete("shmmap", "ls", "--")


def test_what_follows_an_option(complete):
    assert complete("shmmap", "info", "--engine", "p") == {"pure"}


def test_names_of_maps(complete, make):
    m = make()
    assert m.name in complete("shmmap", "info", "")
    assert m.name in complete("shmmap", "get", "--json", m.name[:4])


def test_words_and_files(complete):
    assert complete("shmmap", "completion", "f") == {"fish"}
    assert complete("shmmap", "load", "a-f") == {"a-file.dump"}


def test_a_name_comes_once_or_again_and_again(bash, make):
    m = make()
    assert m.name not in bash("shmmap", "get", m.name, "")
    assert m.name in bash("shmmap", "unlink", m.name, "")
    assert m.name in bash("shmmap", "dump", "")
    assert "a-file.dump" in bash("shmmap", "dump", "x", "")
    assert m.name in bash("shmmap", "scan", "--limit", "5", "")
    assert bash("shmmap", "scan", "--limit", "") == set()
    assert m.name in bash("shmmap", "load", "a-file.dump", "")


def test_names_that_bash_has_in_pieces(bash, clean):
    """At each `@` and `:`: what it puts in is what follows the last of them."""
    with shmmap.ShmMap(clean, namespace="shop", size="1MB", sweep_interval=None) as m:
        assert bash("shmmap", "info", f"shop@{clean[:3]}") == {clean}
        assert f"shop@{clean}" in bash("shmmap", "info", "sho")
        assert bash("shmmap", "get", f"shop@{clean}", "a:b", "--unp") == {"--unpickle"}
        m.unlink()


def test_bash_says_it_is_complete_and_is_registered(environment, tmp_path, capsys):
    text = script("bash", capsys)
    program = f"{text}\ncomplete -p shmmap"
    lines = in_shell(["bash", "--norc", "-c"], program, tmp_path, environment)
    assert lines == ["complete -o bashdefault -F _shmmap shmmap"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
class TestZsh:
    """In a terminal of its own, as zsh completes nowhere else."""

    @pytest.fixture
    def zsh(self, environment, tmp_path, capsys) -> Complete:
        (tmp_path / "script").write_text(script("zsh", capsys))
        (tmp_path / "driver").write_text(DRIVER)

        def complete(*words: str) -> set[str]:
            lines = in_shell(["zsh", "-f", "driver"], " ".join(words), tmp_path, environment)
            return {line.strip() for line in lines if line.strip()}

        return complete

    def test_commands_options_names_and_files(self, zsh, make):
        m = make()
        assert {"workers", "completion", "ls"} <= zsh("shmmap", "")
        assert zsh("shmmap", "wo") == {"workers"}
        assert zsh("shmmap", "scan", "--pre") == {"--prefix"}
        assert zsh("shmmap", "info", "--engine", "p") == {"pure"}
        assert m.name in zsh("shmmap", "info", "")
        assert zsh("shmmap", "completion", "f") == {"fish"}
        assert zsh("shmmap", "load", "a-f") == {"a-file.dump"}


# zsh completes in its line editor only: a second zsh in a pseudo terminal, whose completion prints
# what it would offer, and which is told to complete a line
DRIVER = r"""
zmodload zsh/zpty
zpty inner zsh -f -i
put() { zpty -w inner "$1"; }
put 'PROMPT= ; PS2= ; unsetopt zle_bracketed_paste; stty -echo -onlcr; autoload -Uz compinit'
put 'compinit -u -D; . ./script; zstyle ":completion:*" list-grouped no'
put 'offer() {
    compadd() {
        if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
        local -a found
        builtin compadd -O found "$@"
        (( $#found )) && print -rl -- $found >> offers
        builtin compadd "$@"
    }
    _main_complete
    print end >> offers
}'
put 'zle -C offer complete-word offer; bindkey "^I" offer'
sleep 0.3
: > offers
zpty -w -n inner "$*"$'\t'
for ((i = 0; i < 300; i++)); do grep -q '^end$' offers && break; sleep 0.05; done
grep -v -x -e end offers
zpty -d inner
exit 0
"""


def test_every_command_and_option_is_in_every_script(capsys):
    for shell in completion.SHELLS:
        text = script(shell, capsys)
        for one in TAKEN:
            assert one.name in text
            for forms, _, _ in one.options:
                for form in forms:
                    assert (form if shell != "fish" else form.lstrip("-")) in text, (shell, form)


def test_wrong_usage(run):
    assert run("completion").returncode == run("completion", "cmd").returncode == 2


def test_each_help_has_an_example(capsys):
    for one in cli.COMMANDS:
        with pytest.raises(SystemExit) as caught:
            cli.main([one.name, "--help"])
        said = capsys.readouterr().out
        assert caught.value.code == 0 and f"examples:\n  {one.examples[0]}" in said
        parser = cli.make_parser()
        for example in one.examples:  # which is one that works
            words = example.replace("source <(", "").rstrip(")")
            if "'" not in words and '"' not in words:
                words = words.split(" | ")[0].split(" < ")[0]
                assert parser.parse_args(words.split()[1:]).command == one.name
