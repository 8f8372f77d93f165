"""A Django site whose workers share one cache: pages, sessions and a counter.

    pip install -e ".[examples]"
    python examples/04_django_cache.py

The whole site is in this file. Two processes are forked, as the workers of a server are, and one
browser asks them in turn. The page is drawn by the first worker that is asked, and the other has it
too; the session follows the browser; both count on one counter. It takes a second.

What a user writes is CACHES, SESSION_ENGINE and `cache_page`, as with any backend of Django.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection

import django
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.cache import cache_page

import shmmap

NAME = f"django-example-{os.getpid()}"  # a site would call it by its own name
WORKERS, COUNTS = 2, 10_000

settings.configure(
    SECRET_KEY="of the example", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    CACHES={"default": {
        "BACKEND": "shmmap.contrib.django.ShmMapCache",
        "LOCATION": NAME,
        "OPTIONS": {"size": "4MB"},
    }},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()


@cache_page(60)
def report(request: HttpRequest) -> HttpResponse:
    """Draw a page, which takes long."""
    return HttpResponse(f"drawn by {os.getpid()}")


def visit(request: HttpRequest) -> HttpResponse:
    """Count the visits of this browser."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"visit {request.session['visits']}")


urlpatterns = [path("report/", report), path("visit/", visit)]


def work(pipe: Connection) -> None:
    """Be a worker: answer requests of a browser that has this cookie; then count."""
    while (asked := pipe.recv()) is not None:
        url, cookie = asked
        browser = Client()
        if cookie:
            browser.cookies[settings.SESSION_COOKIE_NAME] = cookie
        response = browser.get(url)
        kept = browser.cookies.get(settings.SESSION_COOKIE_NAME)
        pipe.send((response.content.decode(), kept.value if kept else cookie))
    for _ in range(COUNTS):
        cache.incr("total")
    pipe.send("done")


def main() -> int:
    """Ask the workers in turn; return the exit code, 0 if all is as the docstring says."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0]).parse_args()
    fork = multiprocessing.get_context("fork")
    pairs = [fork.Pipe() for _ in range(WORKERS)]
    pipes = [ours for ours, _ in pairs]
    workers = [fork.Process(target=work, args=(theirs,), daemon=True) for _, theirs in pairs]
    cache.set("total", 0, timeout=None)
    try:
        for worker in workers:
            worker.start()
        cookie, said = "", []
        for url in ("/report/", "/visit/"):
            for worker, pipe in zip(workers, pipes, strict=True):
                pipe.send((url, cookie))
                text, cookie = pipe.recv()
                said.append(text)
                print(f"worker {worker.pid} answers {url:9} {text}")
        for pipe in pipes:
            pipe.send(None)
        for pipe in pipes:
            pipe.recv()
        total = cache.get("total")
        print(f"{WORKERS} workers counted to {COUNTS:,} at once: {total:,}")
        drawn = f"drawn by {workers[0].pid}"
        right = said == [drawn, drawn, "visit 1", "visit 2"] and total == WORKERS * COUNTS
        return 0 if right else 1
    finally:
        for worker in workers:
            worker.join(5)
            worker.kill()
        shmmap.unlink(NAME)


if __name__ == "__main__":
    sys.exit(main())
