"""What the guides on systemd and on memory limits say of a service: its /dev/shm, and its limits.

Units and containers are played by mount namespaces. Each error that a guide shows is compared with
the one that is raised.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.tools import machine

from ..support.children import Child
from ..support.strangers import (
    SHM,
    VICTIM,
    become,
    enter_own_mounts,
    enter_own_shm,
    forget_creations,
    libc,
    outcome,
)

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guide"
UNIT = re.compile(r'^```ini title="(\S+)"\n(.*?)^```$', re.M | re.S)
MS_BIND = 0x1000
NOT_PERMITTED = "not permitted"


def guide(name: str) -> str:
    """Return the text of a guide, each gap one space."""
    return " ".join((GUIDES / name).read_text().split())


def entered(result: Any) -> Any:
    """Return what a child found in its namespaces; skip where there may be none."""
    if result == NOT_PERMITTED:
        pytest.skip("needs the right to mount a tmpfs (CAP_SYS_ADMIN)")
    return result


def mount_tmpfs(where: Path, options: str) -> None:
    """Mount one; in mounts of this process's own."""
    assert libc.mount(b"tmpfs", bytes(where), b"tmpfs", 0, options.encode()) == 0
    forget_creations()


# -- a /dev/shm of a unit's or container's own --------------------------------------------------


def test_a_full_shm_says_what_the_guide_shows(private):
    kind, text = private(lambda: outcome(lambda: shmmap.ShmMap("pages", "64MB")), "20m")
    assert f"{kind}: {text}" in guide("memory-limits.md")


def test_a_map_that_fits_into_a_small_shm(private):
    """It takes its pages when it is made, and no more when it is filled."""
    def work() -> Any:
        m = shmmap.ShmMap("pages", "18MB", on_full="evict", sweep_interval=None)
        before = m.stats().allocated_bytes
        m.set_many((number, bytes(1000)) for number in range(20_000))
        stats = m.stats()
        return stats.evicted > 0, stats.allocated_bytes - before, m.check()

    assert private(work, "20m") == (True, 0, [])


def test_a_private_shm_is_another_one(name, start, make):
    """TemporaryFileSystem=/dev/shm of one of two units: neither sees the other's map."""
    mine = make()
    mine["greeting"] = "here"

    def work(child: Child) -> Any:
        if not enter_own_shm("4m"):
            return NOT_PERMITTED
        with pytest.raises(shmmap.MapNotFound):
            shmmap.ShmMap.attach(name)
        theirs = shmmap.ShmMap(name, "1MB")
        found = theirs.get("greeting")
        theirs["greeting"] = "there"
        theirs.unlink()
        return found

    assert entered(start(work).result()) is None
    assert mine["greeting"] == "here" and mine.check() == []


def test_two_units_that_bind_one_folder_over_shm_meet(name, start, tmp_path):
    """BindPaths=/run/shop:/dev/shm in both: they share maps, and the rest of the machine does not
    see them."""
    def unit(child: Child) -> Any:
        assert enter_own_mounts()
        assert libc.mount(bytes(tmp_path), b"/dev/shm", None, MS_BIND, None) == 0
        forget_creations()
        become(VICTIM)
        count = shmmap.ShmMap(name, "1MB").incr("units")
        child.tell(count)
        return child.hear()

    def machine_with_both(child: Child) -> Any:
        if not enter_own_mounts():
            return NOT_PERMITTED
        mount_tmpfs(tmp_path, "size=4m,mode=1777")
        units = [Child(unit) for _ in range(2)]
        try:
            return [one.hear() for one in units], outcome(lambda: shmmap.ShmMap.attach(name))[0]
        finally:
            for one in units:
                one.kill()

    counts, error = entered(start(machine_with_both).result())
    assert (sorted(counts), error) == ([1, 2], "MapNotFound")


@pytest.mark.parametrize("mode", ["0755", "000"])  # TemporaryFileSystem=, InaccessiblePaths=
def test_a_shm_that_a_user_may_not_write(start, mode):
    def work(child: Child) -> Any:
        if not enter_own_mounts():
            return NOT_PERMITTED
        mount_tmpfs(SHM, f"mode={mode}")
        become(VICTIM)
        return *outcome(lambda: shmmap.ShmMap("pages", "1MB")), machine.check_shm()[0].status

    kind, text, status = entered(start(work).result())
    assert (kind, status) == ("SystemCallError", "FAIL")
    said, _, helps = text.replace(str(VICTIM), "990").partition(". ")
    assert said in guide("systemd.md") and "1777" in helps and "systemd" in helps


# -- RemoveIPC= ------------------------------------------------------------------------------


def remove_as_systemd(uid: int) -> int:
    """Remove all files of a user, whatever they are called; count them."""
    theirs = [path for path in SHM.iterdir() if path.stat().st_uid == uid]
    for path in theirs:
        path.unlink()
    return len(theirs)


def service(child: Child, name: str) -> Any:
    """As a user of its own, use a map through the removal of its files."""
    become(VICTIM)
    m = shmmap.ShmMap(name, "1MB", shards=1, sweep_interval=0.05)
    m["before"] = 1
    child.tell("up")
    child.hear()
    while "before" in m:
        m.incr("n")
    m["after"] = m.get("after", 0) + 1
    return m.check()


def test_files_that_are_removed_under_a_service(start, name):
    """The creators' file goes with them. The service goes on, in the map that a new process has."""
    def work(child: Child) -> Any:
        if not enter_own_shm("8m"):
            return NOT_PERMITTED
        running = Child(lambda inner: service(inner, name))
        try:
            running.hear()
            removed = remove_as_systemd(VICTIM)
            running.tell("removed")
            problems = running.result()
        finally:
            running.kill()
        with shmmap.ShmMap.attach(name, owner_uid=VICTIM) as m:
            return removed > 4, problems, "before" in m, m["after"], m.check()

    assert entered(start(work).result()) == (True, [], False, 1, [])


# -- limits of a process ----------------------------------------------------------------------


@pytest.mark.parametrize("limit, why", [
    (resource.RLIMIT_FSIZE, "File too large"), (resource.RLIMIT_AS, "Cannot allocate memory"),
], ids=["files", "addresses"])
def test_a_limit_that_a_map_does_not_fit_into(start, name, limit, why):
    def work(child: Child) -> Any:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = 100_000 if limit == resource.RLIMIT_FSIZE else used + (4 << 20)
        resource.setrlimit(limit, (most, most))
        found = outcome(lambda: shmmap.ShmMap(name, "16MB"))
        return *found, [entry for entry in os.listdir(SHM) if name in entry]

    kind, text, left = start(work).result()
    assert kind == "SystemCallError" and why in text and left == []
    assert f"`SystemCallError`: ... {why}" in guide("memory-limits.md")


def test_locked_memory_is_not_needed(start, make):
    """LimitMEMLOCK=0."""
    m = make()

    def work(child: Child) -> Any:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        m.set("a", 1, ttl=60)
        return m["a"]

    assert start(work).result() == 1


# -- the unit files -----------------------------------------------------------------------------


def units(text: str) -> dict[str, str]:
    """List the unit files of a guide by their names."""
    return {match[1]: match[2] for match in UNIT.finditer(text)}


def test_systemd_takes_the_units_that_are_shown(tmp_path):
    """With programs and folders that are there."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    shown = units((GUIDES / "systemd.md").read_text())
    assert set(shown) == {
        "shop.service", "shop.socket", "run-shop.mount", "shop.service.d/shm.conf",
    }
    for file, text in shown.items():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(re.sub(r"^(Exec\w+=)\S+", rf"\1{sys.executable}", text, flags=re.M))
    services = [str(tmp_path / file) for file in shown if not file.endswith(".conf")]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:", "SYSTEMD_LOG_COLOR": "0"}
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", *services], text=True,
                         capture_output=True, env=environment, timeout=60)
    said = [line for line in ran.stderr.splitlines() if "shop" in line]
    assert (ran.returncode, said) == (0, []), ran.stderr
