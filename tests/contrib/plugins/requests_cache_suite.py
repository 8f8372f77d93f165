"""requests-cache's own tests of backends, run against ours, and of the cache and its sessions, in
which ours stands for the SQLite backend.

A server of this process stands for httpbin, which they ask; it answers what they look at.
"""

import gzip
import hashlib
import json
import logging
import os
import sys
import threading
import types
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest
from requests_cache.backends import BACKEND_CLASSES

import shmmap
from shmmap.contrib.part import Part
from shmmap.contrib.requests_cache import ShmMapCache, ShmMapStorage

sys.modules["rich"] = types.ModuleType("rich")  # their conftest logs in colours
sys.modules["rich.logging"] = types.ModuleType("rich.logging")
sys.modules["rich.logging"].RichHandler = lambda **_: logging.NullHandler()

_SESSION = {"allowable_codes", "allowable_methods", "always_revalidate", "cache_control",
            "expire_after", "ignored_parameters", "match_headers", "stale_if_error", "connection"}
_RUN = f"suite-{os.getpid()}"
_names = set()


def name_of(cache_name):
    """Return the map of a cache's name, which may be a path."""
    name = f"{_RUN}-{hashlib.md5(str(cache_name).encode()).hexdigest()[:8]}"
    _names.add(name)
    return name


class Ours(ShmMapCache):
    """Takes what the tests give a session as well, and any name."""

    def __init__(self, cache_name="http_cache", **options):
        options = {key: value for key, value in options.items() if key not in _SESSION}
        super().__init__(name_of(cache_name), **{"size": "8MB", **options})


class OurStorage(ShmMapStorage):
    """A table of a name."""

    def __init__(self, cache_name, table, serializer="pickle", **options):
        super().__init__(Part(name_of(cache_name), table, size="8MB"), serializer)


BACKEND_CLASSES["sqlite"] = Ours


class Server(BaseHTTPRequestHandler):
    """What is asked of httpbin."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body=b"", code=200, **headers):
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers,
                            "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(url.query))
        kind, _, rest = url.path.strip("/").partition("/")
        echo = json.dumps({"args": query, "data": said.decode("latin-1"), "method": self.command,
                           "url": self.path}).encode()
        if kind in ("redirect", "absolute-redirect", "relative-redirect"):
            there = f"/relative-redirect/{int(rest) - 1}" if int(rest) > 1 else "/get"
            if kind == "absolute-redirect":
                there = f"http://{self.headers['Host']}{there.replace('relative', 'absolute')}"
            self.answer(code=302, Location=there)
        elif kind == "cookies" and rest == "set":
            pairs = "; ".join(f"{key}={value}" for key, value in query.items())
            self.answer(code=302, Location="/cookies", Set_Cookie=f"{pairs}; Path=/")
        elif kind == "cookies":
            pairs = dict(pair.split("=") for pair in self.headers.get("Cookie", "").split("; ")
                         if pair)
            self.answer(json.dumps({"cookies": pairs}).encode())
        elif kind == "cache" and rest:
            self.answer(echo, Cache_Control=f"public, max-age={rest}")
        elif kind == "cache":
            asks = {"If-None-Match", "If-Modified-Since"} & set(self.headers)
            self.answer(b"" if asks else echo, code=304 if asks else 200, ETag="here")
        elif kind == "response-headers":
            self.answer(json.dumps(query).encode(), **query)
        elif kind == "gzip":
            self.answer(gzip.compress(b'{"gzipped": true}'), Content_Encoding="gzip")
        elif kind == "deflate":
            self.answer(zlib.compress(b'{"deflated": true}'), Content_Encoding="deflate")
        elif kind == "image":
            self.answer(bytes(range(256)) * 8, Content_Type=f"image/{rest}")
        elif kind in ("html", "xml", "robots.txt", "deny", "encoding"):
            self.answer("<p>\u00e4\u20ac</p>".encode(), Content_Type="text/html; charset=utf-8")
        else:
            self.answer(echo)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET


@pytest.fixture(scope="session", autouse=True)
def server():
    """Start the server, and remove every map at the end."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    os.environ["HTTPBIN_URL"] = f"http://127.0.0.1:{httpd.server_port}"
    yield
    httpd.shutdown()
    thread.join()
    httpd.server_close()
    for name in _names:
        shmmap.unlink(name, missing_ok=True)


@pytest.fixture(autouse=True)
def shmmap_instead(request, monkeypatch):
    """Have tests that replace a method of the SQLite backend's storage replace ours."""
    monkeypatch.setattr(request.module, "SQLiteDict", ShmMapStorage, raising=False)
