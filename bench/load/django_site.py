"""The site of `flask_site.py` as people write it with Django: sessions in the cache, pages that are
cached, a count. It stands alone: the scenario `web-django` copies it beside its server, and says by
the environment which cache it has.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import django
from django.conf import settings

WORK = 400  # rounds of what drawing a page costs: about 1 ms
VISITORS = 500


def configured(kind: str, where: str) -> dict[str, Any]:
    """Return the settings of one of the caches, each as its documentation says."""
    if kind == "dict":
        return {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        }
    if kind == "redis":
        return {
            "BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{where}",
        }
    if kind == "diskcache.FanoutCache":
        return {"BACKEND": "diskcache.DjangoCache", "LOCATION": where}
    return {
        "BACKEND": "shmmap.contrib.django.ShmMapCache", "LOCATION": where,
        "OPTIONS": {"size": "64MB", "value_size": 2_000},
    }


settings.configure(
    SECRET_KEY="of the benchmark", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    CACHES={"default": configured(os.environ["SITE_CACHE"], os.environ["SITE_WHERE"])},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()

from django.contrib.sessions.backends.base import CreateError  # noqa: E402
from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

for visitor in range(VISITORS):  # they have been here before: wrk sends their cookies
    with suppress(CreateError):  # another worker was first
        SessionStore(f"visitor{visitor:06d}").save(must_create=True)
cache.add("requests", 0, None)  # without an end; the first worker's


def draw(number: int) -> str:
    """Draw a page of 2 kB, which takes about a millisecond."""
    total = number
    for step in range(WORK * 20):
        total = (total * 31 + step) % 1_000_003
    return f"<h1>{number}</h1>{total:<2000}"


def page(request: HttpRequest, number: int) -> HttpResponse:
    """Answer a request: the visitor's session, the page, the count."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    text = cache.get(f"page:{number}")
    if text is None:
        text = draw(number)
        cache.set(f"page:{number}", text, 60)
    cache.incr("requests")
    return HttpResponse(text)


def count(request: HttpRequest) -> HttpResponse:
    """Tell how many requests were counted."""
    return HttpResponse(str(cache.get("requests")))


urlpatterns = [path("<int:number>", page), path("count", count)]
app = get_wsgi_application()
