"""Where a dump is written: what other users have put there, and what the disk does meanwhile.

Each test has a /dev/shm of its own, which is a folder as /tmp is: everybody may make names there,
and only remove his own.
"""

from __future__ import annotations

import builtins
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.copies import dumps

from ..support.strangers import ATTACKER, SHM, VICTIM, as_user, libc, outcome

PRECIOUS = b"v" * 5000
HOME = SHM / "home"
_MS_REMOUNT, _MS_RDONLY = 32, 1


def settle_in() -> None:
    """Return the caller a folder that nobody else can look into, and a file in it."""
    HOME.mkdir(mode=0o700)
    (HOME / "precious").write_bytes(PRECIOUS)


def plant(build: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: as_user(ATTACKER, build)


def dump_to(path: Any) -> tuple[str, str]:
    """Dump a small map of one's own; return what came of it."""
    m = shmmap.ShmMap("dumped", "300KB", shards=1)
    m["a"] = 1
    try:
        return outcome(lambda: m.dump(path).entries)
    finally:
        m.unlink()
        m.close()


def is_dump(path: Path) -> bool:
    return path.read_bytes()[:8] == dumps.MAGIC


# what a stranger builds in the sticky folder, and the path that is asked for
TRAPS: dict[str, tuple[Callable[[], Any], str]] = {
    "link to a file": (lambda: (SHM / "t").symlink_to(HOME / "precious"), "t"),
    "dangling link": (lambda: (SHM / "t").symlink_to(HOME / "new"), "t"),
    "link to a link of theirs": (lambda: [
        (SHM / "u").symlink_to(HOME / "precious"), (SHM / "t").symlink_to("u")], "t"),
    "link to a folder": (lambda: (SHM / "t").symlink_to(HOME), "t/precious"),
    "link to a folder, a new name": (lambda: (SHM / "t").symlink_to(HOME), "t/new"),
    "link to a folder, and back": (lambda: (SHM / "t").symlink_to(HOME), "t/../home/precious"),
    "relative link": (lambda: (SHM / "t").symlink_to("home/precious"), "t"),
    "link to itself": (lambda: (SHM / "t").symlink_to("t"), "t"),
    "link to the root": (lambda: (SHM / "t").symlink_to("/"), f"t{HOME}/precious"),
    "link through proc": (lambda: (SHM / "t").symlink_to("/proc/self/cwd"), "t/new"),
    "fifo": (lambda: os.mkfifo(SHM / "t", 0o666), "t"),
    "folder": (lambda: (SHM / "t").mkdir(0o777), "t"),
}
BY_ROOT_TOO = [trap for trap in TRAPS if trap not in ("fifo", "folder")]


@pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])
@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_stranger_has_built_is_not_followed(private, trap, who):
    build, asked = TRAPS[trap]

    def work() -> Any:
        as_user(who, settle_in)
        as_user(ATTACKER, build)
        before = sorted(os.listdir(SHM))
        found = as_user(who, lambda: [os.chdir("/"), dump_to(SHM / asked)][1])
        after = [e for e in sorted(os.listdir(SHM)) if "creators" not in e]
        return found, before == after, sorted(os.listdir(HOME)), (HOME / "precious").read_bytes()

    (error, text), unchanged, home, precious = private(work)
    assert issubclass(getattr(builtins, error, type(None)), OSError), (error, text)
    assert str(SHM / asked) in text
    assert ("symbolic link" in text and f"uid {ATTACKER}" in text) is (trap in BY_ROOT_TOO), text
    assert unchanged and home == ["precious"] and precious == PRECIOUS


@pytest.mark.parametrize("maker", [VICTIM, 0], ids=["one's own", "the folder's owner's"])
def test_links_of_people_one_may_trust_are_followed(private, maker):
    """As the kernel does: what is one's own, or belongs to the owner of the folder (root's)."""
    def work() -> Any:
        as_user(VICTIM, settle_in)
        as_user(maker, lambda: [(SHM / "t").symlink_to(HOME / "precious"),
                                (SHM / "f").symlink_to(HOME), (SHM / "v").symlink_to("f")])
        found = [as_user(VICTIM, lambda p=p: dump_to(SHM / p))
                 for p in ("t", "f/new", "v/../home/./two", "v//three")]
        return found, [is_dump(HOME / e) for e in ("precious", "new", "two", "three")], \
            (SHM / "t").is_symlink()

    assert private(work) == ([("", "1")] * 4, [True] * 4, True)


def test_own_link_to_a_link_of_theirs(private):
    def work() -> Any:
        as_user(VICTIM, settle_in)
        as_user(ATTACKER, lambda: (SHM / "theirs").symlink_to(HOME / "precious"))
        as_user(VICTIM, lambda: (SHM / "mine").symlink_to("theirs"))
        return as_user(VICTIM, lambda: dump_to(SHM / "mine")), (HOME / "precious").read_bytes()

    (error, text), precious = private(work)
    assert error == "PermissionError" and "theirs" in text and precious == PRECIOUS


def test_links_outside_such_folders_are_followed(private):
    """In a folder that is not sticky whoever makes a link could as well replace the file."""
    def work() -> Any:
        as_user(VICTIM, settle_in)
        as_user(ATTACKER, lambda: [(SHM / "open").mkdir(), (SHM / "open").chmod(0o777),
                                   (SHM / "open/t").symlink_to(HOME / "precious")])
        return as_user(VICTIM, lambda: dump_to(SHM / "open/t")), is_dump(HOME / "precious")

    assert private(work) == (("", "1"), True)


@pytest.mark.parametrize("who", [VICTIM, 0], ids=["user", "root"])
def test_another_users_file_at_that_name(private, who):
    """Nobody but root can replace it; it never gets the entries, and keeps its other names."""
    def work() -> Any:
        as_user(ATTACKER, lambda: [(SHM / "t").write_bytes(b"theirs"), (SHM / "t").chmod(0o666),
                                   os.link(SHM / "t", SHM / "again")])
        found = as_user(who, lambda: dump_to(SHM / "t"))
        return found, (SHM / "again").read_bytes(), os.lstat(SHM / "t").st_uid

    (error, text), again, owner = private(work)
    assert again == b"theirs"
    if who == 0:
        assert (error, text, owner) == ("", "1", 0)
    else:
        assert error == "PermissionError" and f"belongs to uid {ATTACKER}" in text
        assert str(SHM / "t") in text and owner == ATTACKER


def test_a_hard_link_to_a_file_of_ones_own(private):
    """Somebody gave a file of ours a name there: the name is replaced, the file stays."""
    def work() -> Any:
        as_user(VICTIM, settle_in)
        os.link(HOME / "precious", SHM / "t")
        return as_user(VICTIM, lambda: dump_to(SHM / "t")), (HOME / "precious").read_bytes()

    assert private(work) == (("", "1"), PRECIOUS)


# -- while it is written ------------------------------------------------------------------


def dump_and(deed: Callable[[], Any], path: Path) -> tuple[str, str]:
    """Dump, and have something happen once the file is open."""
    original = dumps.raw_entries

    def entries(source: Any) -> Any:
        yield from original(source)
        deed()

    dumps.raw_entries = entries
    try:
        return dump_to(path)
    finally:
        dumps.raw_entries = original


def temporary(folder: Path) -> Path:
    (found,) = folder.glob(".shmmap-dump.*")
    return found


def test_the_folder_is_swapped_for_a_link(private):
    """What was found is written to, wherever its name leads by then."""
    def swap() -> None:
        os.rename(SHM / "f", SHM / "old")
        (SHM / "f").symlink_to(HOME)

    def work() -> Any:
        as_user(0, settle_in)
        (SHM / "f").mkdir()
        found = as_user(0, lambda: dump_and(swap, SHM / "f" / "d"))
        return found, os.listdir(HOME), os.listdir(SHM / "old")

    assert private(work) == (("", "1"), ["precious"], ["d"])


def test_the_name_becomes_a_strangers_link(private):
    """A rename replaces the link, and not what it leads to."""
    def work() -> Any:
        as_user(0, settle_in)
        deed = plant(lambda: (SHM / "t").symlink_to(HOME / "precious"))
        found = as_user(0, lambda: dump_and(deed, SHM / "t"))
        return found, (HOME / "precious").read_bytes(), (SHM / "t").is_symlink(), is_dump(SHM / "t")

    assert private(work) == (("", "1"), PRECIOUS, False, True)


@pytest.mark.parametrize("theirs", [True, False], ids=["replaced", "removed"])
def test_the_temporary_file_is_taken_away(private, theirs):
    """In a folder where everybody may rename everything. What lies there then is not ours: it
    neither gets the name nor is removed."""
    folder = SHM / "open"

    def deed() -> None:
        path = temporary(folder)
        as_user(ATTACKER, lambda: [path.unlink(), path.write_bytes(b"x") if theirs else None])

    def work() -> Any:
        folder.mkdir()
        folder.chmod(0o777)
        (folder / "d").write_bytes(b"old")
        found = as_user(0, lambda: dump_and(deed, folder / "d"))
        return found, (folder / "d").read_bytes(), len(os.listdir(folder))

    (error, text), content, files = private(work)
    assert error == "PermissionError" and "another process removed or replaced" in text
    assert str(folder / "d") in text and content == b"old" and files == 1 + theirs


# -- what the disk says ---------------------------------------------------------------------

STEPS = ("open", "write", "fchmod", "fsync", "replace")
NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_fails_with_each_error(monkeypatch, make, tmp_path, step):
    """The cause is told, with the path; the old file stays whole, and nothing else is left."""
    m = make()
    m["a"] = bytes(50_000)
    m.dump(tmp_path / "d")
    whole = (tmp_path / "d").read_bytes()
    real: Any = dumps.write if step == "write" else getattr(os, step)
    for number in NUMBERS:
        def fail(*arguments: Any, number: int = number, **named: Any) -> Any:
            if step == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **named)
            if step == "write":
                arguments[0].write(b"half")
            raise OSError(number, os.strerror(number), *arguments[: step != "write"])

        monkeypatch.setattr(dumps if step == "write" else os, step, fail)
        with pytest.raises(OSError) as caught:
            m.dump(tmp_path / "d")
        monkeypatch.undo()
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "d"))
        assert os.strerror(number) in str(caught.value)
        assert (tmp_path / "d").read_bytes() == whole and os.listdir(tmp_path) == ["d"]


def test_the_new_name_cannot_be_synced(monkeypatch, make, tmp_path):
    """The file is there; whoever asked must know that a crash may take it away."""
    m = make()
    real, calls = os.fsync, []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(calls_to_come.pop(0), "failed")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    calls_to_come = [errno.EIO, errno.EINVAL]
    with pytest.raises(OSError, match="is in place, but may not be on disk") as caught:
        m.dump(tmp_path / "d")
    assert caught.value.filename == str(tmp_path / "d") and is_dump(tmp_path / "d")
    m.dump(tmp_path / "d")  # a file system that syncs no folders
    assert len(calls) == 4


def test_a_full_disk_and_one_that_is_read_only(private):
    def fill() -> Any:
        os.mkdir("/dev/shm/small")
        libc.mount(b"tmpfs", b"/dev/shm/small", b"tmpfs", 0, b"size=40k")
        m = shmmap.ShmMap("dumped", "300KB", shards=1)
        m["a"] = 1
        m.dump("/dev/shm/small/d")
        m["b"] = bytes(60_000)
        full = outcome(lambda: m.dump("/dev/shm/small/d"))
        left = os.listdir("/dev/shm/small"), is_dump(Path("/dev/shm/small/d"))
        libc.mount(b"none", b"/dev/shm/small", None, _MS_REMOUNT | _MS_RDONLY, None)
        return full, left, outcome(lambda: m.dump("/dev/shm/small/d")), \
            os.listdir("/dev/shm/small")

    (full, why), left, (locked, reason), after = private(fill)
    assert full == "OSError" and "No space left" in why and "/dev/shm/small/d" in why
    assert left == (["d"], True) and after == ["d"]
    assert locked == "OSError" and "Read-only file system" in reason and "/small/d" in reason


def test_paths_that_name_no_file(make, tmp_path):
    m = make()
    (tmp_path / "f").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "long").mkdir()
    for path, number in (
        ("", errno.ENOENT), ("/", errno.EISDIR), (".", errno.EISDIR), (f"{tmp_path}/f/", None),
        (f"{tmp_path}/file/", errno.ENOTDIR), (f"{tmp_path}/f/..", errno.EISDIR),
        (f"{tmp_path}/new/", errno.ENOENT), (f"{tmp_path}/file/x", errno.ENOTDIR),
        (tmp_path / ("n" * 300), errno.ENAMETOOLONG), (tmp_path / "no" / "x", errno.ENOENT),
        ("/" + "l/" * 3000, None), (f"{tmp_path}/f/x\udcff/y", errno.ENOENT),
    ):
        with pytest.raises(OSError) as caught:
            m.dump(path)
        assert caught.value.filename == os.fsdecode(path), path
        assert number is None or caught.value.errno == number, (path, caught.value)
    assert sorted(os.listdir(tmp_path)) == ["f", "file", "long"]


def test_a_folder_that_may_not_be_entered_or_written(private):
    def work() -> Any:
        for mode in (0o700, 0o755):
            (SHM / f"{mode:o}").mkdir()
            (SHM / f"{mode:o}").chmod(mode)
        return [as_user(VICTIM, lambda p=p: dump_to(SHM / p / "d")) for p in ("700", "755")]

    for error, text in private(work):
        assert error == "PermissionError" and "/d'" in text
