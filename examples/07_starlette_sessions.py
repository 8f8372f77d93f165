"""Sessions of a Starlette app that several processes share, with nothing in the cookie but an id.

    pip install -e ".[examples]"
    python examples/07_starlette_sessions.py

It ends by itself in a second. Three processes serve the app, as the workers of a server would. A
client's requests go to one after the other, and the session is there in each of them. The client
logs in, which gives the session another id, so that the old one is worth nothing. One worker is
killed with SIGKILL, and the client goes on with the next. It logs out, and is out for all workers.

What a user writes is in `make_app`. The workers are asked by Starlette's TestClient, inside each
process, so no port is needed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import shmmap
from shmmap.contrib.starlette import SessionMiddleware, rotate

with warnings.catch_warnings():  # it would rather have httpx2 than httpx; either will do here
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

NAME = f"starlette-example-{os.getpid()}"  # a service would call it by its own name
WORKERS = 3


async def buy(request: Request) -> Response:
    """Put something into the cart, which is a list in the session."""
    request.session.setdefault("cart", []).append(request.path_params["what"])
    return JSONResponse(dict(request.session))


async def login(request: Request) -> Response:
    """Note who it is, under an id that nobody has seen before."""
    request.session["user"] = "ada"
    rotate(request)
    return JSONResponse(dict(request.session))


async def logout(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return JSONResponse({})


async def show(request: Request) -> Response:
    """Show the session."""
    return JSONResponse(dict(request.session))


def make_app(name: str) -> Starlette:
    """Return the app, as each worker makes it."""
    app = Starlette(routes=[
        Route("/buy/{what}", buy, methods=["POST"]), Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]), Route("/", show),
    ])
    app.add_middleware(SessionMiddleware, m=name, size="1MB", max_age=3600)
    return app


def work(name: str, pipe: Connection) -> None:
    """Be a worker: answer (method, path, id) with (session, id), until there is None."""
    app = make_app(name)
    while (asked := pipe.recv()) is not None:
        method, path, token = asked
        client = TestClient(app)
        answer = client.request(method, path, headers={"Cookie": f"session={token}"})
        is_told = "set-cookie" in answer.headers
        pipe.send((answer.json(), client.cookies.get("session") if is_told else token))


class Browser:
    """A client that keeps its cookie, and whose every request goes to the next worker."""

    def __init__(self, workers: list[tuple[Any, Connection]]) -> None:
        self.workers = workers
        self.token: str | None = None

    def ask(self, method: str, path: str, token: str | None = None) -> Any:
        """Send a request; return the session as that worker sees it."""
        worker, pipe = self.workers[0]
        self.workers.append(self.workers.pop(0))
        pipe.send((method, path, token or self.token))
        session, new = pipe.recv()
        if token is None:
            self.token = new
        print(f"{method:4} {path:10} worker {worker.pid}  id {str(new)[:6]:6}  {session}")
        return session


def main() -> int:
    """Start the workers, be the client; return the exit code, 0 if all is as it should be."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    workers: list[tuple[Any, Connection]] = []
    fork = multiprocessing.get_context("fork")
    try:
        for _ in range(WORKERS):
            ours, theirs = fork.Pipe()
            worker = fork.Process(target=work, args=(NAME, theirs), daemon=True)
            worker.start()
            workers.append((worker, ours))
        every = list(workers)
        browser = Browser(workers)
        browser.ask("POST", "/buy/tea")
        bought = browser.ask("POST", "/buy/milk")
        before = browser.token
        browser.ask("POST", "/login")
        thief = browser.ask("GET", "/", before)
        worker, _ = workers.pop(0)
        os.kill(worker.pid, signal.SIGKILL)
        print(f"killed worker {worker.pid}")
        later = browser.ask("POST", "/buy/bread")
        last = browser.token
        browser.ask("POST", "/logout")
        out = browser.ask("GET", "/", last)
        for _, pipe in workers:
            pipe.send(None)
        for worker, _ in every:
            worker.join()
        are_right = (bought == {"cart": ["tea", "milk"]} and thief == out == {}
                     and later == {"cart": ["tea", "milk", "bread"], "user": "ada"})
        return 0 if are_right else 1
    finally:
        for worker, _ in workers:
            worker.kill()
        shmmap.unlink(NAME, missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
