"""One rate limit for all workers of a Flask app, with Flask-Limiter and no server beside it.

    pip install -e ".[examples]"
    python examples/05_flask_limiter.py

Four processes, as the workers of a server would be, get 100 requests each from one client, who may
make 100 an hour. With memory:// each worker counts for itself, so all 400 pass; with shmmap:// the
workers count together, so 100 do, whichever workers they reach. It takes a second or two.

What a user writes is in `make_app`: the import, which tells limits of the scheme, and the URI.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

import shmmap
import shmmap.contrib.limits  # the storage shmmap://

WORKERS, REQUESTS, LIMIT = 4, 100, 100


def make_app(storage_uri: str) -> Flask:
    """Return an app of one page, which a client may ask for LIMIT times an hour."""
    app = Flask(__name__)
    Limiter(get_remote_address, app=app, default_limits=[f"{LIMIT} per hour"],
            storage_uri=storage_uri)

    @app.get("/")
    def page() -> str:
        return f"from process {os.getpid()}\n"

    return app


def work(storage_uri: str, told: Connection, start: Barrier) -> None:
    """Be a worker: answer REQUESTS requests; tell how many passed, and how many were refused."""
    client = make_app(storage_uri).test_client()
    start.wait(timeout=5)
    statuses = [client.get("/").status_code for _ in range(REQUESTS)]
    told.send((statuses.count(200), statuses.count(429)))


def passed_with(storage_uri: str) -> int:
    """Run all workers at once; return how many requests passed."""
    workers = []
    start = multiprocessing.Barrier(WORKERS)
    for _ in range(WORKERS):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=work, args=(storage_uri, theirs, start))
        process.start()
        workers.append((process, ours))
        theirs.close()
    each = [ours.recv() for _, ours in workers]
    for process, _ in workers:
        process.join()
    passed, refused = map(sum, zip(*each, strict=True))
    print(f"{storage_uri.partition('?')[0]:32} {passed} passed, {refused} refused; "
          f"by worker {[passed for passed, _ in each]}")
    return int(passed)


def main() -> int:
    """Compare the two; return the exit code, 0 if all is as the docstring says."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    name = f"flask-limiter-{os.getpid()}"
    try:
        alone = passed_with("memory://")
        together = passed_with(f"shmmap://{name}?size=1MB")
    finally:
        shmmap.unlink(name, missing_ok=True)
    return 0 if (alone, together) == (WORKERS * REQUESTS, LIMIT) else 1


if __name__ == "__main__":
    sys.exit(main())
