"""`shmmap top`: the figures, the keys, a real terminal, and how it is left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shmmap.tools.top import text
from shmmap.tools.top.readings import Line, Reading, Watch
from shmmap.tools.top.state import ORDERS, State

from ...support.engines import once
from .maps import LIMIT_S

pytestmark = once  # the same with either engine


def test_what_happened_in_between_is_told(make):
    m = make(shards=4)
    watch = Watch([m.name])
    m["before"] = 1
    [first] = watch.look()
    assert first.per_s == {} and first.hit_ratio is None and first.now.entries == 1
    for number in range(200):
        m[number] = number
    for number in range(300):
        m.get(number)
    time.sleep(0.05)
    [line] = watch.look()
    assert line.now.entries == 201 and len(line.now.shards) == 4 and line.now.state == "ready"
    assert line.hit_ratio == pytest.approx(2 / 3)
    assert line.per_s["writes"] / line.reads == pytest.approx(2 / 3) and 100 < line.reads < 6_000
    assert 0 < line.now.fill < 1 and line.now.workers == (os.getpid(),)
    [idle] = watch.look()
    assert idle.hit_ratio is None and idle.reads == 0 and idle.history == (line.hit_ratio, None)


def test_a_map_that_is_made_anew_begins_anew(make, name):
    m = make()
    watch = Watch([name])
    m["a"] = 1
    watch.look()
    m.unlink()
    m.close()
    assert watch.look() == []
    make()["b"] = 1
    [line] = watch.look()
    assert line.per_s == {} and line.history == ()


def test_what_cannot_be_read_has_a_line(clean):
    with open(f"/dev/shm/shmmap.{clean}", "wb") as file:
        file.write(b"nothing")
    [line] = Watch([clean]).look()
    assert line.now.state != "ready" and line.now.counts == {} and line.now.fill == 0


def lines() -> list[Line]:
    """Make some: b reads most, a writes most."""
    def line(label: str, hits: float, writes: float) -> Line:
        return Line(Reading(label, "ready", 1, counts={"hits": 1}),
                    {"hits": hits, "misses": 0.0, "writes": writes}, 1.0, ())

    return [line("a", 1, 50), line("b", 9, 5), line("ab", 3, 0)]


class TestKeys:
    def press(self, *keys: str) -> State:
        state = State(lines=lines())
        for key in keys:
            state.press(key)
        return state

    def labels(self, *keys: str) -> list[str]:
        return [line.now.label for line in self.press(*keys).shown()]

    def test_order(self):
        assert self.labels() == ["b", "ab", "a"]
        assert self.labels("s") == ["a", "b", "ab"]
        assert self.labels(*"s" * (len(ORDERS) - 1)) == ["a", "ab", "b"]
        assert self.labels(*"s" * len(ORDERS)) == self.labels()

    def test_filter(self):
        assert self.labels("/", "a") == ["ab", "a"] == self.labels("/", "a", "enter")
        assert self.labels("/", "a", "b", "enter", "/", "back", "enter") == ["ab", "a"]
        assert self.labels("/", "a", "escape") == ["b", "ab", "a"]
        assert self.labels("/", "a", "enter", "escape") == ["b", "ab", "a"]
        assert not self.press("/", "q").is_over and self.press("/", "end").is_over

    def test_choice(self):
        assert self.press("down").chosen == "b" and self.press("down", "down").chosen == "ab"
        assert self.press("down", "up").chosen == "a"
        opened = self.press("enter")
        assert opened.opened() is not None and opened.opened().now.label == "b"
        assert self.press("enter", "escape").opened() is None
        assert State().opened() is None
        empty = State()
        empty.press("enter")
        assert not empty.is_open

    def test_the_rest(self):
        assert self.press("q").is_over and self.press("end").is_over
        assert self.press("p").is_paused and not self.press("p", " ").is_paused
        assert self.press("+").interval_s == 2 and self.press(*"-----").interval_s == 0.125
        assert self.press("", "x", "ä").is_over is False


def test_texts():
    assert text.balance([5] * 100, 10) == "█" * 10 and text.balance([], 5) == ""
    assert text.blocks([0.001, 0.999], text.ASCII) == ".@"
    assert text.bar(2.0, 3) == "███" and text.bar(-1.0, 3) == "···"
    assert [text.rate(each) for each in (9.96, 999.4, 999.6, 999_600)] == [
        "10", "999", "1.0k", "1.0M"]


def test_lines_of_text_where_there_is_no_terminal(run, make):
    m = make()
    done = run("top", m.name, "--count", "2", "--interval", "0.1")
    assert done.returncode == 0 and done.stderr == ""
    assert len(re.findall(rf"^{m.name} +0 ", done.stdout, re.M)) == 2
    assert "\x1b" not in done.stdout
    for wrong in ("0", "x", "nan", "1e9"):
        assert run("top", "--interval", wrong).returncode == 2


def test_a_reader_that_has_seen_enough(shell, make):
    make()
    done = shell("top --interval 0.1 | head -3")
    assert done.stderr == "" and len(done.stdout.splitlines()) <= 3


class Terminal:
    """A program at a terminal of its own, and what its screen shows."""

    def __init__(self, command: list[str], columns: int, rows: int, **more: str) -> None:
        pyte = pytest.importorskip("pyte")
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.all = b""
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **more}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "PYTHONUNBUFFERED"):
            environment.pop(name, None)
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, env=environment, cwd="/",
                                        start_new_session=True)

    def shows(self, words: str) -> str:
        """Wait until the screen has words; return it."""
        deadline = time.monotonic() + LIMIT_S
        while words not in "\n".join(self.screen.display):
            assert time.monotonic() < deadline, (words, self.screen.display, self.all[-500:])
            self._read(0.1)
        return "\n".join(self.screen.display)

    def _read(self, timeout_s: float) -> None:
        while select.select([self.master], [], [], timeout_s)[0]:
            data = os.read(self.master, 65536)
            self.all += data
            self._stream.feed(data)
            timeout_s = 0.0

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def unread(self) -> int:
        """Count the keys that the program has not read."""
        return int.from_bytes(fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4)), sys.byteorder)

    def ended(self) -> int:
        """Wait until the program has ended; return its exit code."""
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            self._read(0.05)
        self._read(0.1)
        return self.process.wait()

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Run `shmmap top` at a terminal."""
    pytest.importorskip("rich")
    opened: list[Terminal] = []

    def run_top(*arguments: str, columns: int = 140, rows: int = 30, **more: str) -> Terminal:
        command = [sys.executable, "-m", "shmmap", "top", "--interval", "0.2", *arguments]
        opened.append(Terminal(command, columns, rows, **more))
        return opened[-1]

    yield run_top
    for one in opened:
        one.close()


def test_a_live_screen(terminal, make):
    m = make(shards=4)
    top = terminal(m.name)
    top.shows("1 maps")
    m["a"] = 1
    m.get("a")
    for words in ("HISTORY", "100.0%"):
        top.shows(words)
    top.press("\r")
    for words in ("OPERATIONS", "WORKER", str(os.getpid()), "python"):
        top.shows(words)
    top.press("\x1b")
    top.shows("READS/s")
    top.press("/no such map\r")
    top.shows("no map has that in its name")
    top.press("/" + "\x7f" * 20 + m.name[:3] + "\r")
    top.shows(f"filter {m.name[:3]}")
    top.press("p")
    top.shows("PAUSED")
    top.press("q")
    assert top.ended() == 0
    is_left_clean(top)


def is_left_clean(top: Terminal) -> None:
    """Assert that the terminal is as it was: its modes, the first screen, a cursor."""
    assert termios.tcgetattr(top.slave) == top.before
    assert top.all.rindex(b"\x1b[?1049l") > top.all.rindex(b"\x1b[?1049h")
    assert top.all.rindex(b"\x1b[?25h") > top.all.rindex(b"\x1b[?25l")


@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131),
])
def test_a_signal_leaves_the_terminal_clean(terminal, make, number, code):
    top = terminal(make().name)
    top.shows("READS/s")
    top.process.send_signal(number)
    assert top.ended() == code
    is_left_clean(top)


def test_it_stands_still_and_goes_on(terminal, make):
    """Ctrl+Z gives the terminal back to the shell, fg takes it again."""
    top = terminal(make().name)
    top.shows("READS/s")
    top.process.send_signal(signal.SIGTSTP)
    stands_still_and_goes_on(top)


def stands_still_and_goes_on(top: Terminal) -> None:
    """Assert that SIGTSTP has stopped a program, which leaves the screen, and comes back to it."""
    deadline = time.monotonic() + LIMIT_S
    while "\nState:\tT" not in Path(f"/proc/{top.process.pid}/status").read_text():
        assert time.monotonic() < deadline and top.process.poll() is None, top.all[-3000:]
        top._read(0.05)
    top._read(0.1)
    is_left_clean(top)
    top.process.send_signal(signal.SIGCONT)
    top.press("p")
    top.shows("PAUSED")
    top.press("q")
    assert top.ended() == 0
    is_left_clean(top)


def fill(top: Terminal) -> None:
    """Take nothing from it until it waits for that in the middle of what it draws."""
    top.press("\r")  # more to draw
    deadline = time.monotonic() + LIMIT_S
    keys = -1
    while not keys == top.unread() > 0:  # else it reads what is pressed
        assert time.monotonic() < deadline
        top.press("pp")  # each key draws
        keys = top.unread()
        time.sleep(0.2)


@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGTSTP, 0), (signal.SIGTERM, 143), (signal.SIGINT, 130),
])
def test_a_signal_may_come_while_the_terminal_takes_nothing(terminal, make, number, code):
    """What draws waits in a write then, and nothing else may be written from a handler."""
    top = terminal(make().name, columns=300, rows=60)
    top.shows("READS/s")
    fill(top)
    top.process.send_signal(number)
    time.sleep(0.2)
    if number == signal.SIGTSTP:
        stands_still_and_goes_on(top)
        return
    assert top.ended() == code
    is_left_clean(top)


def test_one_signal_ends_it_though_the_terminal_never_takes_anything(terminal, make):
    top = terminal(make().name, columns=300, rows=60)
    top.shows("READS/s")
    fill(top)
    top.process.send_signal(signal.SIGTERM)
    assert top.process.wait(LIMIT_S) == -signal.SIGTERM
    assert termios.tcgetattr(top.slave) == top.before


def before_the_fourth_look(folder: Path, line: str) -> None:
    """Write what has a Python that finds it execute a line there."""
    (folder / "sitecustomize.py").write_text(
        "import shmmap.tools.top.readings as r\nlook = r.Watch.look\ncount = [0]\n"
        "def sabotaged(self):\n    count[0] += 1\n    if count[0] > 3:\n"
        f"        {line}\n    return look(self)\nr.Watch.look = sabotaged\n")


def test_a_signal_that_comes_again_does_not_wait(terminal, make, tmp_path):
    before_the_fourth_look(tmp_path, "import time; time.sleep(600)")
    top = terminal(make().name, PYTHONPATH=str(tmp_path))
    top.shows("READS/s")
    time.sleep(2)
    for _ in range(2):
        assert top.process.poll() is None
        top.process.send_signal(signal.SIGINT)
        top._read(0.3)
    assert top.ended() == 130
    is_left_clean(top)


def test_a_fault_of_ours_leaves_the_terminal_clean(terminal, make, tmp_path):
    before_the_fourth_look(tmp_path, "raise RuntimeError('planted')")
    top = terminal(make().name, PYTHONPATH=str(tmp_path))
    top.shows("READS/s")
    assert top.ended() == 1 and b"planted" in top.all
    is_left_clean(top)


@pytest.mark.parametrize(("columns", "rows"), [(40, 8), (80, 24), (300, 60), (20, 3)])
def test_any_size_is_drawn_and_a_change_followed(terminal, make, columns, rows):
    m = make()
    top = terminal(m.name, columns=columns, rows=rows)
    top.shows("shmmap top")
    top.press("\r")
    top.press("q")
    assert top.ended() == 0
    is_left_clean(top)


def test_the_size_may_change(terminal, make):
    top = terminal(make().name, columns=140)
    top.shows("HISTORY")
    fcntl.ioctl(top.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 90, 0, 0))
    top.screen.resize(20, 90)
    top.screen.reset()
    top.shows("READS/s")
    assert "HISTORY" not in "\n".join(top.screen.display)
    top.press("q")
    assert top.ended() == 0


@contextlib.contextmanager
def worker_with(argument, m):
    """A worker of `m` whose command ends in `argument`."""
    child = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, shmmap; m = shmmap.ShmMap(sys.argv[1]); print(1, flush=True); "
         "sys.stdin.read()", m.name, argument],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
    try:
        child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.communicate()


def test_names_and_commands_of_others_are_escaped(terminal, make):
    m = make()
    with worker_with("\x1b]0;title\x07", m):
        top = terminal(m.name, columns=240)
        top.shows("READS/s")
        top.press("\r")
        top.shows(r"\x1b]0;title\x07")
        assert b"\x1b]0;" not in top.all


def test_a_long_command_leaves_room(terminal, make):
    m = make()
    with worker_with("x" * 3000, m) as child:
        top = terminal(m.name, columns=100)
        top.shows("READS/s")
        top.press("\r")
        for words in ("WORKER", str(child.pid), "RSS"):
            top.shows(words)


def test_without_rich_there_are_lines_of_text(terminal, make, tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError('none')")
    top = terminal(make().name, PYTHONPATH=str(tmp_path))
    top.shows("READS/s")
    assert b"shmmap[cli]" in top.all and b"\x1b[?1049h" not in top.all
    top.process.send_signal(signal.SIGINT)
    assert top.ended() == 130


