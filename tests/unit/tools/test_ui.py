"""The server of `shmmap ui`: who is answered, what with, and what a map may not do to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection

import pytest

import shmmap
from shmmap.tools.ui import documents, page
from shmmap.tools.ui.door import Door, is_loopback

from .maps import LIMIT_S, OTHER, needs_other_engine, poke
from .serving import serve as serve

PATHS = ("/", "/figures", "/keys", "/value", "/favicon.ico", "/none")


class TestDoor:
    """Nothing is told to whoever has no token, or was led here by another name."""

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=%ff", "?other={}",
                                       "?token={}x", "?token={}&token=x", "?&&&&&&&&&&token={}"])
    def test_no_token_no_answer(self, serve, path, query):
        serving = serve()
        token = serving.server.door.token
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = serving.ask_as_it_is(path + query.format(token), method)
            assert answer.status == 403
            assert token.encode() not in answer.data and token not in str(answer.headers)

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2", "",
                                      "[::2]:80", "127.0.0.1@evil.example", "evil.example:80"])
    def test_another_name_is_refused(self, serve, host):
        serving = serve()
        for path in PATHS:
            answer = serving.ask(path, headers={"Host": host})
            assert answer.status == 403 and b"by that name" in answer.data

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9000", "[::1]:2"])
    def test_this_machine_is_known_by_its_names(self, serve, host):
        assert serve().ask("/", headers={"Host": host}).status == 200

    def test_over_ipv6(self, serve):
        try:
            serving = serve(host="::1")
        except OSError:
            pytest.skip("there is no IPv6")
        assert serving.server.url.startswith("http://[::1]:")
        assert serving.ask("/").status == 200

    def test_two_hosts_are_refused(self, serve):
        serving = serve()
        said = f"GET {serving.path('/')} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert raw(serving.address, said.encode()).startswith(b"HTTP/1.0 403")

    def test_all_addresses_of_a_server_for_all(self):
        door = Door("0.0.0.0")
        assert door.is_asked_for("10.1.2.3:80") and not door.is_asked_for("evil.example")
        assert not Door("10.0.0.1").is_asked_for("10.0.0.2")
        assert Door("ui.example", "10.0.0.1").is_asked_for("UI.example:80")

    def test_a_token_is_of_one_run(self):
        assert len({Door("127.0.0.1").token for _ in range(20)}) == 20
        assert re.fullmatch(r"[\w-]{32}", Door("127.0.0.1").token)

    @pytest.mark.parametrize(("host", "is_alone"), [
        ("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True),
        ("0.0.0.0", False), ("10.0.0.1", False), ("ui.example", False)])
    def test_which_hosts_are_loopback(self, host, is_alone):
        assert is_loopback(host) is is_alone


class TestAnswers:
    """What each answer says to a browser."""

    def test_the_page_and_its_policy(self, serve):
        answer = serve().ask("/")
        assert answer.status == 200 and answer.headers["content-type"] == page.CONTENT_TYPE
        policy = dict(part.split(" ", 1) for part in
                      answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'" and policy["connect-src"] == "'self'"
        for kind in ("style-src", "script-src"):
            assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[kind])
        assert policy["require-trusted-types-for"] == "'script'"

    @pytest.mark.parametrize("path", PATHS)
    def test_headers_of_every_answer(self, serve, path):
        serving = serve()
        for answer in (serving.ask(path, "HEAD"), serving.ask_as_it_is(path, "HEAD"),
                       serving.ask(path, "POST")):
            for name, text in page.HEADERS.items():
                assert answer.headers[name.lower()] == text
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert serving.server.door.token not in str(answer.headers)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X"])
    def test_nothing_changes_anything(self, serve, method):
        answer = serve().ask("/", method)
        assert answer.status == 501 and b"only GET and HEAD" in answer.data

    def test_head_has_no_body(self, serve, make):
        serving = serve(make().name)
        for path in PATHS:
            assert serving.ask(path, "HEAD").data == b""

    def test_the_page_is_one_file(self):
        """It asks nobody but its own server, and makes no markup of strings."""
        text = page.load().data.decode()
        assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
        found = set(re.findall(r"https?://[\w.]+", text))
        assert found == {"http://www.w3.org"}  # the name of SVG
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|"
                             r"\bFunction\(|\son\w+=| style=", text.replace("alert(1)", ""))

    def test_garbage_is_refused(self, serve):
        serving = serve()
        for said in (b"\x16\x03\x01\x02\x00\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                     b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"\r\n\r\n"):
            answer = raw(serving.address, said)
            assert answer == b"" or re.match(rb"HTTP/1.0 (4|5)\d\d ", answer), said
            assert serving.server.door.token.encode() not in answer
        assert serving.ask("/").status == 200


def raw(address: tuple[str, int], said: bytes) -> bytes:
    """Say something, and nothing more; return all that is answered."""
    with socket.create_connection(address, timeout=LIMIT_S) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return file.read()


class TestFigures:
    """The stream."""

    def test_they_say_what_stats_says(self, serve, make):
        m = make(shards=4, ttl=60)
        serving = serve(m.name)
        stream = serving.stream(map=m.name)
        stream.next()
        m.update({number: number for number in range(100)})
        assert [m.get(number) for number in range(50, 150)].count(None) == 50
        told = stream.until(lambda told: told["maps"][0]["entries"] == 100)
        stats = m.stats()
        one, = told["maps"]
        assert one["label"] == m.name and one["state"] == "ready" and one["workers"] == 1
        assert one["fill"] == pytest.approx(1 - stats.free_slots / stats.slots)
        assert told["problem"] is None and told["more"] == 0 and told["interval"] == 0.1
        told = stream.until(lambda told: told["counts"]["hits"] == 50, "map")
        assert told["counts"]["misses"] == 50 and told["counts"]["writes"] == 100
        assert told["parameters"]["ttl"] == 60 and told["geometry"]["shards"] == 4
        rows = [dict(zip(documents.COLUMNS, row, strict=True)) for row in told["shards"]["rows"]]
        assert sum(row["entries"] for row in rows) == 100 and len(rows) == 4
        assert sum(row["live_bytes"] for row in rows) == stats.live_bytes == told["live_bytes"]
        assert [worker["pid"] for worker in told["workers"]] == list(stats.workers)
        stream.close()

    def test_they_go_on_under_load(self, serve, make, start):
        m = make(size="2MB", shards=4, on_full="evict")
        m["a"] = 0

        def write(child):
            own, number = shmmap.ShmMap.attach(m.name), 0
            while True:
                own[number % 5000] = b"x" * (number % 300)
                own.get("a")
                number += 1

        start(write), start(write)
        stream = serve(m.name).stream(map=m.name)
        told = stream.until(lambda told: told["maps"][0]["per_s"].get("hits", 0) > 10)
        assert told["maps"][0]["hit_ratio"] > 0 and told["maps"][0]["per_s"]["writes"] > 10
        for _ in range(5):
            told = stream.next("map")
            assert told["is_readable"] and len(told["shards"]["rows"]) == 4
        stream.close()

    def test_all_pages_have_the_same_look(self, serve, make):
        serving = serve(make().name)
        streams = [serving.stream() for _ in range(5)]
        looks = [{stream.next()["time"] for _ in range(5)} for stream in streams]
        assert len(set.union(*looks)) < 15
        for stream in streams:
            stream.close()

    def test_nobody_looks_while_no_page_is_open(self, serve, make, monkeypatch):
        serving = serve(make().name)
        looked = []
        look = serving.server.looker._watch.look
        monkeypatch.setattr(serving.server.looker._watch, "look",
                            lambda: looked.append(1) or look())
        time.sleep(0.3)
        assert looked == []
        stream = serving.stream()
        stream.next()
        stream.close()
        assert looked

    def test_nobody_joins_or_locks(self, serve, make, start):
        """A stopped process has a shard locked."""
        m = make(shards=1)
        m["a"] = 1

        def hold(child):
            m.attachment.shards[0].lock.lock(m.attachment.worker.fork_page.word | 0x1234, 10**9)
            os.kill(os.getpid(), signal.SIGSTOP)

        start(hold).wait_stopped()
        serving = serve(m.name)
        stream = serving.stream(map=m.name)
        assert stream.next("map")["counts"]["writes"] == 1
        key = serving.ask("/keys", map=m.name, prefix="a").json()["keys"][0]["id"]
        assert serving.ask("/value", map=m.name, key=key).json()["found"]
        stream.close()
        assert m.stats().hits == 0 and len(m.stats().workers) == 1

    def test_a_map_that_comes_goes_and_comes_again(self, serve, make, name):
        serving = serve(name)
        stream = serving.stream(map=name)
        assert stream.next()["maps"] == []
        assert stream.next("map")["state"] == "gone"
        m = make()
        assert stream.until(lambda told: told["is_readable"], "map")["counts"]["writes"] == 0
        m.unlink()
        stream.until(lambda told: not told["maps"])
        assert stream.next("map")["problem"] == "there is no such map now"
        for path, fields in (("/keys", {}), ("/value", {"key": "1-61"})):
            answer = serving.ask(path, map=name, **fields)
            assert answer.status == 404 and answer.json()["problem"] == "there is no such map now"
        stream.close()

    def test_a_damaged_shard(self, serve, make):
        m = make(shards=2)
        m.update({str(number): number for number in range(20)})
        serving, shard = serve(m.name), m.attachment.mappings[0]
        before = bytes(shard.buffer[:8])
        shard.buffer[:8] = b"\0" * 8
        try:
            stream = serving.stream(map=m.name)
            rows = stream.next("map")["shards"]["rows"]
            assert rows[0] == ["0", *[None] * 7, "it is damaged"] and rows[1][-1] is None
            told = serving.ask("/keys", map=m.name).json()
            assert 0 < len(told["keys"]) < 20 and "damaged" in told["problems"][0]
            stream.close()
        finally:
            shard.buffer[:8] = before

    def test_a_map_that_is_garbage(self, serve, make, name):
        m = make()
        magic = m.attachment.control.MAGIC
        poke(name, "MAGIC", 12345)
        try:
            serving = serve(name)
            stream = serving.stream(map=name)
            one, = stream.next()["maps"]
            assert one["state"] == "garbage" and one["entries"] is None and not one["is_readable"]
            told = stream.next("map")
            assert "magic number" in told["problem"] and not told["is_readable"]
            answer = serving.ask("/keys", map=name)
            assert answer.status == 404 and "garbage" in answer.json()["problem"]
            stream.close()
        finally:
            poke(name, "MAGIC", magic)

    @needs_other_engine
    def test_maps_of_both_engines(self, serve, make, hold, clean):
        """Two maps of one name are told apart."""
        m = make()
        m["mine"] = 1
        hold(clean, OTHER)
        serving = serve(clean)
        stream = serving.stream()
        labels = [one["label"] for one in stream.next()["maps"]]
        assert labels[0] == clean and labels[1].startswith(f"{clean} (") and OTHER in labels[1]
        keys = [[key["text"] for key in serving.ask("/keys", map=label).json()["keys"]]
                for label in labels]
        assert keys == [["mine"], ["held"]]
        stream.close()

    def test_other_maps_are_not_told_of(self, serve, make, other):
        m, second = make(), other()
        second["secret"] = 1
        serving = serve(m.name)
        stream = serving.stream(map=second.name)
        assert [one["label"] for one in stream.next()["maps"]] == [m.name]
        assert stream.next("map")["state"] == "gone"
        assert serving.ask("/keys", map=second.name).status == 404
        assert serving.ask("/value", map=second.name, key="1-736563726574").status == 404
        stream.close()

    def test_shm_that_cannot_be_listed_is_told(self, serve, monkeypatch):
        monkeypatch.setattr("shmmap.system.segment.SHM_DIRECTORY", "/nowhere/")
        stream = serve().stream()
        told = stream.next()
        assert told["maps"] == [] and "/nowhere/" in told["problem"]
        stream.close()


class TestCommand:
    """The command itself, as a process."""

    @pytest.fixture
    def running(self, make, tmp_path):
        m = make()
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "ui", m.name, "--interval", "0.1"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(("number", "code"), [
        (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_it_serves_until_a_signal(self, running, number, code):
        if signal.getsignal(number) is signal.SIG_IGN:
            pytest.skip("whoever runs the tests ignores it, and so does what they start")
        process, url = running
        host, _, rest = url.removeprefix("http://").partition("/")
        assert re.fullmatch(r"127\.0\.0\.1:\d+", host) and re.fullmatch(r"\?token=[\w-]+", rest)
        connection = HTTPConnection(host, timeout=LIMIT_S)
        connection.request("GET", f"/figures{rest}")
        stream = connection.getresponse()
        assert stream.status == 200 and stream.readline().startswith(b"retry")
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(LIMIT_S) == code and time.monotonic() - began < 5
        stream.read()  # it has ended
        connection.close()
        assert process.stdout.read() == "" and process.stderr.read() == "(Ctrl+C ends it)\n"

    def test_a_port_that_is_taken(self, run, serve):
        port = serve().address[1]
        done = run("ui", "--listen", f"127.0.0.1:{port}")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr == (f"shmmap: --listen 127.0.0.1:{port}: Address already in use; say "
                               "another port, or 0 for one that is free\n")

    @pytest.mark.parametrize("wrong", [["--listen", "9177"], ["--interval", "0"], ["a/b"]])
    def test_wrong_usage(self, run, wrong):
        assert run("ui", *wrong).returncode == 2

    def test_help_has_examples(self, run):
        said = run("ui", "--help").stdout
        assert "shmmap ui pages --listen 127.0.0.1:8080" in said

    def test_other_addresses_are_warned_of(self, tmp_path):
        process = subprocess.Popen(
            [sys.executable, "-m", "shmmap", "ui", "none-such", "--listen", "0.0.0.0:0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        try:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline().startswith("http://0.0.0.0:")
            said = [process.stderr.readline() for _ in range(2)]
            assert "no map 'none-such'" in said[0] and "ssh -L is safer" in said[1]
        finally:
            process.kill()
            process.communicate()


def test_documents_are_of_ascii(make):
    assert json.loads(documents.encoded({"a": "\u202e\ud800"})) == {"a": "\u202e\ud800"}
    assert documents.encoded({"a": "ä\n"}).isascii()


def test_it_is_in_what_is_installed():
    assert page.load().data.startswith(b"<!doctype html>")
