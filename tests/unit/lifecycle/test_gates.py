"""Feature gates: one word of the control segment, seen by all."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import gates
from shmmap.system import creation
from shmmap.tools import cli


def test_a_switch_is_seen_by_every_process(make, start):
    m = make()
    assert dict(m.gates) == {"mirror": False, "auto-shards": False}
    assert repr(m.gates) == "<Gates: mirror off, auto-shards off>"

    def switch(child: Any) -> None:
        m.gates["mirror"] = True

    start(switch).end()
    assert m.gates["mirror"] is True and make().gates["mirror"] is True
    m.gates.reset("mirror")
    assert m.gates["mirror"] is False and not any(gate.said for gate in m.gates.list())


def test_what_nobody_switched_is_as_this_version_says(make, monkeypatch):
    m, other = make(), (("mirror", True, "other default"), ("reshard", True, "later"))
    monkeypatch.setattr(gates, "KNOWN", other)
    assert dict(m.gates) == {"mirror": True, "reshard": True}
    m.gates["mirror"] = False
    monkeypatch.undo()
    assert dict(m.gates) == {"mirror": False, "auto-shards": False}


def test_gates_of_a_newer_version_are_kept_and_shown(make, monkeypatch):
    m = make()
    newer = (*gates.KNOWN, ("reshard", False, "later"))
    monkeypatch.setattr(gates, "KNOWN", newer)
    m.gates["reshard"] = True
    monkeypatch.undo()
    m.gates["mirror"] = True
    assert dict(m.gates) == {"mirror": True, "auto-shards": False, "gate-2": True}
    assert "newer version" in m.gates.list()[2].help
    with pytest.raises(KeyError, match="no gate 'gate-2' can be switched"):
        m.gates["gate-2"] = False
    m.gates.reset("mirror")
    monkeypatch.setattr(gates, "KNOWN", newer)
    assert m.gates["reshard"] is True


def test_a_map_that_replaces_it_has_them(make):
    m = make(size="400KB")
    m.gates["mirror"] = True
    other = make(size="500KB", on_mismatch="replace")
    assert other.gates["mirror"] and m.gates["mirror"]
    fresh = make(fresh=True)
    assert not fresh.gates["mirror"]


@pytest.mark.parametrize("then", ["unlinked", "made anew", "replaced"])
@pytest.mark.parametrize("on_unlinked", ["raise", "reopen"])
def test_a_switch_that_waited_is_none_of_a_map_that_is_gone(
    make, monkeypatch, then, on_unlinked
):
    """It waits for the creation lock while another handle, which has it, removes the map."""
    m, others = make(size="400KB", on_unlinked=on_unlinked), []
    m["n"] = 1
    original = creation.creation_lock

    @contextlib.contextmanager
    def after_another(name: str, *given: Any) -> Any:
        monkeypatch.undo()
        if then == "replaced":
            others.append(make(size="500KB", on_mismatch="replace"))
        else:
            shmmap.unlink(m.name)
            if then == "made anew":
                others.append(make(size="400KB"))
        with original(name, *given) as turn:
            yield turn

    monkeypatch.setattr(creation, "creation_lock", after_another)
    if on_unlinked == "raise":
        with pytest.raises(shmmap.MapUnlinked):
            m.gates["mirror"] = True
        assert [other.gates["mirror"] for other in others] == [False] * len(others)
    else:
        m.gates["mirror"] = True
        assert m.gates["mirror"] and make().gates["mirror"]  # of the map that has the name


def test_what_is_no_gate(make):
    m = make()
    with pytest.raises(KeyError):
        m.gates["shard"]
    with pytest.raises(KeyError, match="it knows mirror"):
        m.gates["shard"] = True
    with pytest.raises(TypeError, match="True or False, not str"):
        m.gates["mirror"] = "on"
    m.close()
    with pytest.raises(shmmap.MapClosed):
        m.gates["mirror"]


def test_many_switch_different_gates_at_once(make, start, monkeypatch):
    """No switch of one gate undoes another one's."""
    m = make()
    monkeypatch.setattr(gates, "KNOWN", tuple((f"g{n}", False, "") for n in range(8)))

    def switch(number: int) -> Any:
        def work(child: Any) -> None:
            for turn in range(40):
                m.gates[f"g{number}"] = turn % 2 == 0
            m.gates[f"g{number}"] = number % 2 == 0
        return work

    for child in [start(switch(number)) for number in range(4)]:
        child.end()
    assert [m.gates[f"g{number}"] for number in range(4)] == [True, False, True, False]


def test_from_the_command_line(make, capsys):
    m = make()
    assert cli.main(["gates", m.name]) == 0
    assert capsys.readouterr().out.startswith("mirror       off (default)  shmmap.Mirror answers")
    assert cli.main(["gates", m.name, "mirror", "on"]) == 0 and m.gates["mirror"]
    assert cli.main(["gates", m.name, "mirror", "default"]) == 0 and not m.gates["mirror"]
    assert cli.main(["gates", m.name, "mirror"]) == 2
    assert cli.main(["gates", m.name, "shard", "on"]) == 2
    assert cli.main(["gates", f"none-{os.getpid()}"]) == 1
    said = capsys.readouterr().err
    assert "on, off or default" in said and "it knows mirror" in said and "no map" in said
    assert cli.main(["gates", m.name, "on"]) == 2  # the gate was forgotten
    assert capsys.readouterr().err == "shmmap: no gate 'on'; there is mirror, auto-shards\n"


def test_the_command_line_lists_the_maps_with_switched_gates(make, other, capsys):
    m, second = make(), other(size="1MB")
    assert cli.main(["gates"]) == 0
    assert m.name not in capsys.readouterr().out  # others of this machine may be there
    m.gates["mirror"] = True
    second.gates["mirror"] = False
    assert cli.main(["gates"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [m.name, "mirror on"] in lines and [second.name, "mirror off"] in lines
    second.gates.reset("mirror")
    assert cli.main(["gates"]) == 0 and second.name not in capsys.readouterr().out.split()


def test_the_help_says_what_a_gate_is_and_default(capsys):
    with pytest.raises(SystemExit):
        cli.main(["gates", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for part in ("A gate is a switch of a map", "the gate to switch: mirror",
                 "as if nobody had switched it", "list the maps that have a switched gate"):
        assert part in said
