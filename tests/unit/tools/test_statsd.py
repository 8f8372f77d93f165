"""`shmmap metrics --statsd`: what a server gets, line by line."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shmmap import ShmMapError
from shmmap.tools import statsd
from shmmap.tools.statsd import Sender

from ...support.engines import once
from .maps import LIMIT_S

pytestmark = once  # the same with either engine
LINE = re.compile(r"shmmap\.([\w.-]+):(\d[\d.e+-]*)\|([gc])")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(LIMIT_S)
        yield listening


@pytest.fixture
def sender(server, name) -> Iterator[Sender]:
    made = Sender(*server.getsockname(), [name])
    yield made
    made.close()


def figures(sender: Sender, name: str) -> dict[str, tuple[float, str]]:
    """Return the figures of a map that are sent now, and what kind each is."""
    found = {}
    for line in sender.lines():
        matched = LINE.fullmatch(line)
        assert matched, line
        assert matched[1].startswith(f"{name}.") and matched[1] not in found
        found[matched[1].removeprefix(f"{name}.")] = float(matched[2]), matched[3]
    return found


def test_gauges_are_as_they_are_and_counters_what_has_come(sender, make, name):
    m = make(shards=2)
    m["a"] = 1
    first = figures(sender, name)
    assert first["entries"] == (1, "g") and first["shard_entries.fullest"] == (1, "g")
    assert {kind for _, kind in first.values()} == {"g"}  # nothing is known to have come since
    for _ in range(5):
        m.get("a")
    m.get("none")
    m["b"] = 2
    second = figures(sender, name)
    assert second["entries"] == (2, "g") and second["writes"] == (1, "c")
    assert second["reads.yes"] == (5, "c") and second["reads.no"] == (1, "c")
    assert {kind for _, kind in figures(sender, name).values()} == {"g"}


def test_a_map_that_is_made_anew_begins_anew(sender, make, name):
    m = make()
    m["a"] = m["b"] = 1
    figures(sender, name)
    m.unlink()
    m.close()
    again = make()
    for _ in range(7):  # more than the former one had: it is told apart by more than the number
        again["c"] = 1
    assert figures(sender, name)["writes"] == (7, "c")


def test_a_map_that_comes_later_begins_at_0(sender, make, name):
    assert figures(sender, name) == {}
    m = make()
    m["a"] = 1
    m.get_or_set("b", lambda: 1)
    found = figures(sender, name)
    assert found["writes"] == (2, "c") and found["latency.compute.p50"][1] == "g"


def test_one_that_could_not_be_read_goes_on(sender, make, name, monkeypatch):
    m = make()
    m["a"] = 1
    figures(sender, name)
    m["a"] = 2
    with monkeypatch.context() as patched:
        patched.setattr(statsd.metrics.inspection, "shards_of", fail)
        assert "writes" not in figures(sender, name)
    m["a"] = 3
    assert figures(sender, name)["writes"] == (2, "c")


def test_one_that_cannot_be_read_at_first_has_no_past(sender, make, name, monkeypatch):
    m = make()
    m["a"] = 1
    figures(sender, name)
    m.unlink()
    m.close()
    m = make()
    m["a"] = 1
    with monkeypatch.context() as patched:
        patched.setattr(statsd.metrics.inspection, "shards_of", fail)
        figures(sender, name)
    assert "writes" not in figures(sender, name)
    m["a"] = 2
    assert figures(sender, name)["writes"] == (1, "c")


def test_what_has_gone_is_forgotten(sender, make, name):
    for number in range(3):
        m = make()
        m[number] = 1
        figures(sender, name)
        assert len(sender._maps) == 1
        m.unlink()
        m.close()
    figures(sender, name)
    assert sender._maps == {}


def fail(*_: object) -> None:
    raise ShmMapError("planted")


def test_percentiles_are_of_the_time_since(sender, make, name):
    m = make()
    m.get_or_set("a", lambda: 1)
    assert not [one for one in figures(sender, name) if one.startswith("latency")]
    m.get_or_set("b", lambda: 1)
    found = figures(sender, name)
    low, high = found["latency.compute.p50"], found["latency.compute.p99"]
    assert 0 < low[0] <= high[0] < 1e3 * LIMIT_S and low[1] == "g"
    assert "latency.compute.p50" not in figures(sender, name)


def test_what_statsd_takes_for_its_own_is_not_in_a_name():
    labels = {"map": "a.b:c|d@e/f", "engine": "other", "layout": "3", "owner": "x", "found": "yes"}
    assert statsd._map_part(labels) == "a_b_c_d_e_f.other.3"
    assert statsd._figure_part(statsd.metrics.Sample("shmmap_reads", labels, 1)) == "reads.yes"


def test_datagrams_are_no_longer_than_a_packet(server, sender, make):
    make()
    sender.send()
    datagrams = [server.recv(65536)]
    server.settimeout(0.2)
    with pytest.raises(TimeoutError):
        while True:
            datagrams.append(server.recv(65536))
    assert all(len(one) <= 1400 for one in datagrams)
    lines = [line for one in datagrams for line in one.decode().split("\n")]
    assert len(lines) > 10 and all(map(LINE.fullmatch, lines))


def test_lines_are_put_together():
    long = "x" * 700
    assert list(statsd._packed([])) == []
    assert list(statsd._packed(["a", "b"])) == [b"a\nb"]
    assert [len(one) for one in statsd._packed([long, long, "a"])] == [700, 702]
    assert [len(one) for one in statsd._packed(["y" * 3000, "a"])] == [3000, 1]


def test_nobody_listens(server, make, name, capsys):
    make()
    where = server.getsockname()
    server.close()
    sender = Sender(*where, [name])
    for _ in range(3):
        sender.send()
    sender.close()
    assert capsys.readouterr().err == (
        "shmmap: --statsd: Connection refused; it is tried again\n")


class TestCommand:
    def test_it_sends_until_it_is_interrupted(self, server, make, name, tmp_path):
        make()
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "metrics", name, "--interval", "0.1", "--statsd",
             f"127.0.0.1:{server.getsockname()[1]}"], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            for _ in range(2):
                found = server.recv(65536).decode().split("\n")
                while f"shmmap.{name}.entries:0|g" not in found:
                    found = server.recv(65536).decode().split("\n")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 130 and out == ""
            assert err.startswith("sending to 127.0.0.1:") and "Traceback" not in err
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(("words", "code", "said"), [
        (["--statsd", "8125"], 2, "must be HOST:PORT"),
        (["--statsd", "127.0.0.1:1", "--listen", "127.0.0.1:0"], 2, "not allowed with"),
        (["--statsd", "127.0.0.1:1", "--interval", "0"], 2, "must be from 0.1"),
        (["--interval", "5"], 2, "goes with --statsd"),
        (["--statsd", f"{'x' * 64}:8125"], 1, "--statsd xxx"),
        (["--statsd", "no-such-host.invalid:8125"], 1, "--statsd no-such-host.invalid:8125: "),
    ])
    def test_what_is_wrong_is_named(self, run, words, code, said):
        done = run("metrics", *words)
        assert done.returncode == code and said in done.stderr
