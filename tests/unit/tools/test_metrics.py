"""Figures for a monitoring system: what they say, who may be asked, and what is made of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import shmmap
from shmmap.tools import metrics, metrics_server

from .maps import LIMIT_S, objects

MONITORING = Path(__file__).parents[3] / "examples" / "monitoring"


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Read a text as Prometheus does: the figures by their names and the labels that differ."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    return {
        (sample.name, *(text for label, text in sorted(sample.labels.items())
                        if label in ("found", "which", "state"))): sample.value
        for family in parser.text_string_to_metric_families(text) for sample in family.samples
    }


def test_they_say_what_stats_says(make):
    m = make(size="1MB", shards=4)
    for number in range(100):
        m[number] = number
    for number in range(150):
        m.get(number)
    del m[0]
    said, stats = figures(shmmap.openmetrics(m.name)), m.stats()
    assert said["shmmap_entries",] == stats.entries == 99
    assert said["shmmap_reads_total", "yes"] == stats.hits == 100
    assert said["shmmap_reads_total", "no"] == stats.misses == 50
    for name in ("writes", "deletes", "evicted", "expired", "aged", "lock_waits", "takeovers",
                 "repairs", "read_retries", "locked_reads", "sweeps", "near_hits"):
        assert said[f"shmmap_{name}_total",] == getattr(stats, name), name
    for name in ("slots", "free_slots", "size_bytes", "allocated_bytes", "live_bytes"):
        assert said[f"shmmap_{name}",] == getattr(stats, name), name
    assert said["shmmap_workers",] == len(stats.workers) == 1
    assert said["shmmap_state", "ready"] == 1 and said["shmmap_unreadable_shards",] == 0
    assert said["shmmap_shards",] == 4
    assert said["shmmap_shard_entries", "fullest"] == max(stats.shard_entries)
    assert said["shmmap_shard_entries", "emptiest"] == min(stats.shard_entries)


def test_every_family_is_met_and_described(make):
    m = make()
    text = shmmap.openmetrics(m.name)
    assert {sample.family for sample in metrics.samples([m.name])} == set(metrics.FAMILIES)
    page = (Path(__file__).parents[3] / "docs" / "guide" / "metrics.md").read_text()
    for name, family in metrics.FAMILIES.items():
        shown = f"{name}_total" if family.kind == "counter" else name
        assert f"# TYPE {name} {family.kind}\n" in text and f"`{shown}`" in page, name
    assert text.endswith("# EOF\n")


def test_no_map_is_none_of_anything():
    assert figures(shmmap.openmetrics("there-is-none")) == {}


def test_nobody_joins_or_locks(make):
    """Another process asks: it maps nothing, has no row, and waits for no lock."""
    m = make(shards=1)
    asks = ("import sys, shmmap; text = shmmap.openmetrics(sys.argv[1]); "
            "print('shmmap_workers' in text, 'shmmap.' in open('/proc/self/maps').read())")
    held = os.fork()
    if not held:
        m.attachment.shards[0].lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9)
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        os.waitpid(held, os.WUNTRACED)
        done = subprocess.run([sys.executable, "-c", asks, m.name], capture_output=True, text=True,
                              timeout=LIMIT_S, cwd="/")
    finally:
        os.kill(held, signal.SIGKILL)
        os.waitpid(held, 0)
    assert done.stdout == "True False\n", done.stderr
    assert len(m.stats().workers) == 1


def test_a_damaged_map_is_told_of(make, name):
    make(shards=2)
    shards = (file for file in objects(name) if re.fullmatch(r"shmmap\..*\.0\.1", file.name))
    file = next(shards)
    there = file.read_bytes()[:4096]
    with file.open("r+b") as opened:
        opened.write(b"\xff" * len(there))
        opened.flush()
        try:
            said = figures(shmmap.openmetrics(name))
        finally:
            opened.seek(0)
            opened.write(there)
    assert said["shmmap_unreadable_shards",] == 1 and said["shmmap_shards",] == 2
    assert said["shmmap_entries",] == 0


def test_what_is_no_map_has_a_state(clean):
    (Path("/dev/shm") / f"shmmap.{clean}").write_bytes(b"nothing")
    said = figures(shmmap.openmetrics(clean))
    assert [key for key in said if key[0] == "shmmap_state"] and ("shmmap_entries",) not in said


def test_names_of_users_and_maps_are_written_as_labels():
    assert metrics._escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


class TestCommand:
    def test_it_prints(self, run, make):
        m = make()
        done = run("metrics", m.name)
        assert done.returncode == 0 and figures(done.stdout)["shmmap_workers",] == 1

    def test_a_map_that_is_not_there_is_named(self, run):
        done = run("metrics", "there-is-none")
        assert done.returncode == 1 and "no map 'there-is-none'" in done.stderr
        assert figures(done.stdout) == {}

    @pytest.mark.parametrize("address", ["9177", "127.0.0.1:", ":9", "a:b", "127.0.0.1:65536"])
    def test_a_wrong_address_is_named(self, run, address):
        done = run("metrics", "--listen", address)
        assert done.returncode == 2 and "must be HOST:PORT" in done.stderr

    def test_one_that_is_taken_is_named(self, run):
        with metrics_server.Exporter("127.0.0.1", 0, []) as server:
            port = server.server_address[1]
            done = run("metrics", "--listen", f"127.0.0.1:{port}")
        assert done.returncode == 1 and "in use" in done.stderr

    def test_it_listens_until_it_is_interrupted(self, make, tmp_path):
        m = make()
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "metrics", m.name, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert figures(ask(url))["shmmap_workers",] == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 130
        finally:
            process.kill()
            process.communicate()


def ask(url: str) -> str:
    """Return the text at an address, whose type must be right."""
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        assert answer.headers["Content-Type"] == metrics.CONTENT_TYPE
        return answer.read().decode()  # type: ignore[no-any-return]


@pytest.fixture
def serving() -> Iterator[Callable[..., metrics_server.Exporter]]:
    """Serve in this process; ended after the test."""
    started: list[tuple[metrics_server.Exporter, threading.Thread]] = []

    def serve(*names: str, host: str = "127.0.0.1") -> metrics_server.Exporter:
        server = metrics_server.Exporter(host, 0, list(names))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        started.append((server, thread))
        return server

    yield serve
    for server, thread in started:
        server.shutdown()
        thread.join(LIMIT_S)
        server.server_close()


def test_whoever_asks_at_once_is_answered(make, serving):
    m = make()
    server = serving(m.name)
    threads = [threading.Thread(target=lambda: texts.append(ask(server.url))) for _ in range(10)]
    texts: list[str] = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len(texts) == 10 and len(set(texts)) == 1


def test_what_else_is_asked(make, serving):
    m = make()
    server = serving(m.name)
    connection = HTTPConnection(*server.server_address[:2], timeout=LIMIT_S)
    for method, path, status in (("GET", "/", 200), ("GET", "/x", 404), ("HEAD", "/metrics", 200),
                                 ("GET", "/metrics?a=b", 200), ("POST", "/metrics", 501)):
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == status and (answer.read() == b"") is (method == "HEAD")
        connection.close()
    with pytest.raises(urllib.error.HTTPError):
        ask(server.url + "/..")


def test_one_who_says_nothing_keeps_nobody_waiting(make, serving):
    m = make()
    server = serving(m.name)
    with socket.create_connection(server.server_address[:2]) as silent:
        silent.sendall(b"GET /metrics")
        assert figures(ask(server.url))["shmmap_workers",] == 1


def test_prometheus_client_has_the_same_figures(make):
    client = pytest.importorskip("prometheus_client")
    from prometheus_client.openmetrics.exposition import generate_latest

    from shmmap.contrib.prometheus import MapCollector

    registry = client.CollectorRegistry()
    m = make()
    registry.register(MapCollector(m.name, "not-there-yet"))
    m["a"] = 1
    m.get("a")
    assert figures(generate_latest(registry).decode()) == figures(shmmap.openmetrics(m.name))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(MapCollector(m.name))


def promtool(*arguments: Any) -> str:
    """Run it in the folder of the rules; return what it says."""
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool")
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=MONITORING, text=True,
                          capture_output=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> dict[str, str]:
    """Return what the dashboard asks for, by the titles of its panels."""
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return {f"{panel['title']} {target['refId']}":
            target["expr"].replace("$__rate_interval", "1m").replace("$map", ".*")
            for panel in board["panels"] for target in panel["targets"]}


def test_the_dashboard_and_the_rules_ask_for_what_there_is():
    told = [*expressions().values(), (MONITORING / "alerts.yml").read_text()]
    asked = {name for text in told for name in re.findall(r"\bshmmap_\w+", text)}
    there = {f"{name}_total" if family.kind == "counter" else name
             for name, family in metrics.FAMILIES.items()}
    assert asked <= there, asked - there


def test_the_rules_fire_as_they_should():
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_the_dashboard_can_be_asked(tmp_path):
    rules = [f"      - record: 'a:{at}'\n        expr: {json.dumps(text)}\n"
             for at, text in enumerate(expressions().values())]
    file = tmp_path / "rules.yml"
    file.write_text("groups:\n  - name: dashboard\n    rules:\n" + "".join(rules))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)
