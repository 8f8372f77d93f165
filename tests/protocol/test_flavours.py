"""Two engines, and two versions of the layout, side by side under one name: each has a map of its
own, whoever opens the second is told, and the tools see both."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap import _engine
from shmmap.lifecycle import reaping, siblings
from shmmap.memory.layout import LAYOUT_VERSION, constants
from shmmap.system import segment
from shmmap.system.flavours import OWN, UNNAMED, Flavour
from shmmap.tools import doctor, inspection

from ..support.leftovers import SHM, control_file, objects_of

K = constants()
OTHER = "pure" if shmmap.ENGINE == "compiled" else "compiled"
PACKAGE = Path(shmmap.__file__).parent
LIMIT_S = 60
WRITE = """
import sys, warnings, shmmap
warnings.simplefilter("always")
with shmmap.ShmMap(sys.argv[1], size="1MB") as m:
    m.update(who=shmmap.ENGINE, only_there=[1, 2])
    print(m["who"])
"""
pytestmark = pytest.mark.skipif(
    OTHER == "compiled" and len(_engine.compiled_modules()) < len(_engine.MODULES),
    reason="the compiled engine is not installed",
)


def run(program: str, *arguments: str, engine: str = shmmap.ENGINE) -> Any:
    """Run an interpreter, away from the checkout."""
    return subprocess.run(
        [program, *arguments], cwd="/", text=True, capture_output=True, timeout=LIMIT_S,
        stdin=subprocess.DEVNULL, env={**os.environ, "SHMMAP_ENGINE": engine},
    )


def shell(*arguments: str, engine: str = shmmap.ENGINE) -> Any:
    return run(sys.executable, "-m", "shmmap", *arguments, engine=engine)


@pytest.fixture
def both(name: str) -> Iterator[str]:
    """A name; whatever is left of it, of any flavour, goes at the end."""
    yield name
    for entry in objects_of(name):
        (SHM / entry).unlink(missing_ok=True)


@pytest.fixture
def later(tmp_path: Path) -> str:
    """Make another version of shmmap, with a later layout; return its interpreter."""
    copy = tmp_path / "later" / "shmmap"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    source = copy / "memory" / "layout.py"
    source.write_text(source.read_text().replace(
        f"LAYOUT_VERSION = {LAYOUT_VERSION}", f"LAYOUT_VERSION = {LAYOUT_VERSION + 1}"))
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={copy.parent} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_two_engines_side_by_side(both):
    """Neither stands in the other's way, nor sees the other's entries; who comes second is told."""
    first = run(sys.executable, "-c", WRITE, both, engine=OTHER)
    assert (first.stdout, first.stderr) == (f"{OTHER}\n", ""), first.stderr
    with pytest.warns(shmmap.MapMismatchWarning) as told:
        m = shmmap.ShmMap(both, size="1MB")
    text = str(told[0].message)
    assert told[0].filename == __file__ and f"the {OTHER} engine" in text
    assert f"migrate {both} --from-engine={OTHER}" in text and "unlink" in text
    assert len(m) == 0
    m["who"] = shmmap.ENGINE
    again = run(sys.executable, "-c", WRITE, both, engine=OTHER)
    assert again.stdout == f"{OTHER}\n" and "MapMismatchWarning" in again.stderr
    with warnings.catch_warnings():  # once a process
        warnings.simplefilter("error")
        m.close()
        with shmmap.ShmMap(both, size="1MB") as m:
            assert dict(m) == {"who": shmmap.ENGINE} and m.check() == []
    listed = [line.split()[:5] for line in shell("ls").stdout.splitlines()
              if line.startswith(f"{both} ")]
    assert listed == [[both, "ready", engine, str(LAYOUT_VERSION), count]
                      for engine, count in ((shmmap.ENGINE, "1"), (OTHER, "2"))]
    assert [(one.engine, one.layout, one.entries) for one in shmmap.maps()
            if one.name == both] == [(shmmap.ENGINE, LAYOUT_VERSION, 1), (OTHER, LAYOUT_VERSION, 2)]
    line, = (line for line in doctor.check_flavours(inspection.find_maps(both)))
    assert line.status == "WARN" and "migrate" in line.todo


def test_the_warning_as_an_error_leaves_nothing(both):
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    before = objects_of(both)
    with warnings.catch_warnings(), pytest.raises(shmmap.MapMismatchWarning):
        warnings.simplefilter("error")
        shmmap.ShmMap(both, size="1MB")
    assert objects_of(both) == before


def test_attach_says_that_there_is_another(both):
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    for way in (shmmap.ShmMap.attach, shmmap.unlink):
        with pytest.raises(shmmap.MapNotFound, match=f"one of the {OTHER} engine.*migrate {both}"):
            way(both)


def test_migrate_between_engines(both):
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    made = shell("migrate", both)
    assert made.returncode == 0, made.stderr
    assert "2 entries written" in made.stdout
    assert f"unlink --engine={OTHER} -- {both}" in made.stdout
    with pytest.warns(shmmap.MapMismatchWarning), shmmap.ShmMap.attach(both) as m:
        assert dict(m) == {"who": OTHER, "only_there": [1, 2]}
        m["who"] = "newer"
    again = shell("migrate", both, f"--from-engine={OTHER}")
    assert "0 entries written" in again.stdout and "2 were older" in again.stdout
    with shmmap.ShmMap.attach(both) as m:
        assert m["who"] == "newer"
    assert "no other map" in shell("migrate", both, f"--from-engine={shmmap.ENGINE}").stderr


def test_the_file_between_is_private_and_goes(both, tmp_path, monkeypatch):
    """Whoever could read it, or put another one there, would read or write the map's values."""
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nstat -c %a . > {tmp_path}/mode\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    made = shell("migrate", both, "--from-python", str(script))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "mode").read_text() == "700\n"
    assert sorted(os.listdir(tmp_path)) == ["mode", "python"]


def test_unlink_takes_one_and_names_the_other(both):
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    with pytest.warns(shmmap.MapMismatchWarning):
        shmmap.ShmMap(both, size="1MB").close()
    made = shell("unlink", both)
    assert made.returncode == 0 and f"unlink --engine={OTHER} -- {both}" in made.stdout
    assert [one.actual.engine for one in inspection.find_maps(both)] == [OTHER]
    again = shell("unlink", both)
    assert again.returncode == 1 and f"--engine={OTHER}" in again.stderr
    assert shell("unlink", both, "--all").returncode == 0 and not objects_of(both)


@pytest.mark.parametrize("way", ["handle", "name", "command"])
def test_unlink_leaves_the_other_as_it_is(both, way):
    run(sys.executable, "-c", WRITE, both, engine=OTHER)
    theirs = objects_of(both)
    with pytest.warns(shmmap.MapMismatchWarning):
        m = shmmap.ShmMap(both, size="1MB")
    if way == "handle":
        m.unlink()
    elif way == "name":
        assert shmmap.unlink(both)
    else:
        assert shell("unlink", both, "--yes").returncode == 0
    m.close()
    assert objects_of(both) == theirs


def test_prune_takes_what_the_other_engine_left(both):
    """Half-made under the very name of a map that is used: only the leftover goes."""
    m = shmmap.ShmMap(both, size="1MB")
    m["a"] = 1
    mine = objects_of(both)
    (SHM / segment.control_name(both, OWN._replace(engine=OTHER))[1:]).touch(mode=0o600)
    states = {one.actual.engine: one.state for one in inspection.find_maps(both)}
    assert states == {shmmap.ENGINE: "ready", OTHER: "half-made"}
    leftover = next(one for one in inspection.find_maps(both) if one.leftover)
    command = doctor.check_leftovers([leftover])[0].todo
    assert command.endswith(f"unlink --yes --engine={OTHER} -- {both}")
    assert shell(*command.split(" -m shmmap ")[1].split()).returncode == 0
    assert objects_of(both) == mine and m["a"] == 1
    m.close()


def test_reaping_leaves_the_other_engines_maps(both):
    lingers = WRITE.replace('size="1MB"', 'size="1MB", ephemeral=True, linger=1e-6')
    for _ in range(10):  # the other engine's tests may reap it meanwhile, as they may
        run(sys.executable, "-c", lingers, both, engine=OTHER)
        theirs = objects_of(both)
        reaping.reap()
        if theirs and objects_of(both) == theirs:
            return
    raise AssertionError("it was gone each time")


# -- layouts -------------------------------------------------------------------------------


def test_two_layouts_side_by_side(both, later):
    """An upgrade, with the old map in the way, and back again."""
    with shmmap.ShmMap(both, size="1MB") as m:
        m["old"] = 1
    made = run(later, "-c", WRITE, both, engine="pure")
    assert made.stdout == "pure\n" and "MapMismatchWarning" in made.stderr, made.stderr
    siblings._told.clear()
    said = f"layout {LAYOUT_VERSION + 1}.*--from-python"
    with pytest.warns(shmmap.MapMismatchWarning, match=said):
        m = shmmap.ShmMap(both, size="1MB")
    assert dict(m) == {"old": 1}
    m.close()
    assert "--from-python" in shell("migrate", both).stderr
    moved = shell("migrate", both, "--from-python", later)
    assert moved.returncode == 0, moved.stderr
    with shmmap.ShmMap.attach(both) as m:
        assert dict(m) == {"old": 1, "who": "pure", "only_there": [1, 2]}
    back = run(later, "-m", "shmmap", "migrate", both, "--from-python", sys.executable,
               f"--from-engine={shmmap.ENGINE}", engine="pure")
    assert back.returncode == 0 and "3 entries written" in back.stdout, back.stderr


def test_the_tools_leave_another_layouts_map_alone(both, later):
    run(later, "-c", WRITE, both, engine="pure")
    theirs = objects_of(both)
    with pytest.warns(shmmap.MapMismatchWarning):
        shmmap.ShmMap(both, size="1MB").close()
    mine = sorted(set(objects_of(both)) - set(theirs))
    foreign = inspection.find_maps(both)[1]
    assert foreign.state == "foreign" and not foreign.leftover
    assert sorted(foreign.objects) == theirs
    assert shell("unlink", both).returncode == 0 and objects_of(both) == theirs
    layout = f"--layout={LAYOUT_VERSION + 1}"
    refused = shell("unlink", both, layout)  # nobody can know whether it is used
    assert refused.returncode == 1 and "--yes" in refused.stderr and objects_of(both) == theirs
    shmmap.ShmMap(both, size="1MB").close()
    assert shell("unlink", both, layout, "--yes").returncode == 0
    assert len(objects_of(both)) == len(mine)


def test_a_control_segment_of_an_early_version_in_the_way(both):
    """Up to layout 4 its name said nothing of the layout, nor of the engine."""
    m = shmmap.ShmMap(both, size="1MB", shards=1)
    words = bytearray((SHM / control_file(both)).read_bytes())
    theirs = [entry for entry in objects_of(both) if entry != control_file(both)]
    m.close()
    words[K["C_LAYOUT"] : K["C_LAYOUT"] + 8] = (4).to_bytes(8, sys.byteorder)
    (SHM / control_file(both)).unlink()
    early = SHM / segment.control_name(both, UNNAMED)[1:]
    early.write_bytes(words)
    early.chmod(0o600)
    with pytest.warns(shmmap.MapMismatchWarning, match="layout 4"):
        m = shmmap.ShmMap(both, size="1MB", shards=1)
    ours, foreign = inspection.find_maps(both)
    assert (ours.state, foreign.state) == ("ready", "foreign")
    assert foreign.actual == Flavour(4, shmmap.ENGINE)
    assert sorted(foreign.objects) == sorted([early.name, *theirs])
    m.unlink()
    assert set(objects_of(both)) == {early.name, *theirs}
    assert shell("unlink", both, "--layout=4", "--yes").returncode == 0
    assert not objects_of(both)


def test_a_strangers_segment_claims_no_part_of_ours(both):
    """Another flavour's control segment that says our nonce: our parts stay ours."""
    m = shmmap.ShmMap(both, size="1MB", shards=1)
    mine = objects_of(both)
    words = (SHM / control_file(both)).read_bytes()
    fake = SHM / segment.control_name(both, OWN._replace(engine=OTHER))[1:]
    fake.write_bytes(words)
    ours, theirs = inspection.find_maps(both)
    assert sorted(ours.objects) == mine and theirs.objects == (fake.name,)
    assert theirs.state == "garbage" and "contradicts its name" in theirs.problem
    assert stat.S_ISREG(fake.stat().st_mode)
    m.close()
