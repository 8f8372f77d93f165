"""Django's own tests of caches, and of sessions in caches, run against ours in a process of their
own: `python django_suite.py FOLDER REPORT`, the source of Django and where to write the outcomes.

Its LocMemCache is ours, on maps of this process. Sleeping is the passing of time at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import django.core.cache.backends.locmem as locmem
from django.conf import settings
from django.test import SimpleTestCase, TestCase, override_settings
from django.test.runner import DiscoverRunner

import shmmap
from shmmap.contrib import django as ours

FOLDER = Path(sys.argv[1]) / "tests"
BACKEND = "django.core.cache.backends.locmem.LocMemCache"
NAME = f"suite-{os.getpid()}"
OF_LOCMEM = ("test_multiple_caches", "test_locking_on_pickle", "test_incr_decr_timeout",
             "test_lru_get", "test_lru_set", "test_lru_incr")
WITH_A_CACHE = ("CustomCacheKeyValidationTests", "CacheClosingTests", "CacheUtils",
                "DefaultNonExpiringCacheKeyTests", "PrefixedCacheUtils", "CacheHEADTest",
                "CacheI18nTest", "PrefixedCacheI18nTest", "CacheMiddlewareTest",
                "TestWithTemplateResponse", "CacheHandlerTest")
WITH_SESSIONS = ("CacheSessionTests", "CacheDBSessionTests", "CacheDBSessionWithTimeZoneTests")


class Ours(ours.ShmMapCache):
    """A map for each LOCATION, and each process that runs this."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        options = {"size": "1MB", **params.get("OPTIONS", {})}
        super().__init__(f"{NAME}-{location or 'default'}", {**params, "OPTIONS": options})


def sleep(seconds: float) -> None:
    """Let so much time pass for all maps, and a tick, with which entries expire."""
    for m in ours._handles.values():
        clock = m.attachment.clock
        clock.frozen_ns = clock.now_ns() + int(seconds * 1e9) + 10**9 // 64


async def asleep(seconds: float) -> None:
    sleep(seconds)


class Awaited:
    """A cache whose methods are those to await, awaited."""

    def __init__(self, get: Any) -> None:
        self.__dict__["_get"] = get

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._get(), f"a{name}", None)
        if method is None:
            return getattr(self._get(), name)
        return lambda *given, **named: asyncio.run(method(*given, **named))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get(), name, value)

    def __contains__(self, key: Any) -> bool:
        return self.has_key(key)


class Outcomes(unittest.TestResult):
    """What became of each test, by class and name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def say(self, test: Any, outcome: str, more: Any = "") -> None:
        case = getattr(test, "test_case", test)
        self.found[f"{type(case).__name__}.{case._testMethodName}"] = outcome
        if outcome == "failed":
            print(case, self._exc_info_to_string(more, case), file=sys.stderr)  # type: ignore[attr-defined]

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self.found.setdefault(f"{type(test).__name__}.{test._testMethodName}", "passed")

    def addError(self, test: Any, err: Any) -> None:
        self.say(test, "failed", err)

    addFailure = addError

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err:
            self.say(test, "failed", err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.say(test, "skipped")


def configure() -> None:
    """Set Django up as its own `runtests.py` does."""
    apps = ("contenttypes", "auth", "sites", "sessions", "messages", "staticfiles")
    database = {"ENGINE": "django.db.backends.sqlite3"}
    settings.configure(
        INSTALLED_APPS=[*(f"django.contrib.{app}" for app in apps), "cache", "sessions_tests"],
        MIGRATION_MODULES=dict.fromkeys([*apps, "sessions_tests"]),
        DATABASES={"default": database, "other": database},
        CACHES={"default": {"BACKEND": BACKEND}}, ROOT_URLCONF="urls", SITE_ID=1, USE_TZ=False,
        SECRET_KEY="django_tests_secret_key", STATIC_URL="static/", LANGUAGE_CODE="en",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates",
                    "DIRS": [str(FOLDER / "templates")], "APP_DIRS": True}],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()


def classes() -> list[type[Any]]:
    """Return all test classes that are run: of Django, and made of Django's."""
    from cache import tests, tests_async  # type: ignore[import-not-found]
    from sessions_tests import tests as sessions  # type: ignore[import-not-found]

    time.sleep = sleep
    tests_async.asyncio = SimpleNamespace(sleep=asleep)

    def on_a_map(location: str) -> Any:
        return override_settings(CACHES=tests.caches_setting_for_tests(
            BACKEND=BACKEND, LOCATION=location, exclude={"cull", "zero_cull"},
        ))

    class BaseTests(tests.BaseCacheTests, TestCase):  # type: ignore[misc]
        pass

    class AwaitedTests(BaseTests):
        def setUp(self) -> None:
            super().setUp()
            there, all_there = tests.cache, tests.caches
            tests.cache = Awaited(lambda: there)
            tests.caches = AwaitedCaches(all_there)
            self.addCleanup(setattr, tests, "cache", there)
            self.addCleanup(setattr, tests, "caches", all_there)

    class AwaitedCaches:
        def __init__(self, all_there: Any) -> None:
            self._all = all_there

        def __getitem__(self, alias: str) -> Any:
            backend = self._all[alias]
            return Awaited(lambda: backend)

    class AsyncTests(tests_async.AsyncDummyCacheTests):  # type: ignore[misc]
        def tearDown(self) -> None:
            tests.cache.clear()

    class LocMemTests(SimpleTestCase):
        pass

    for name in OF_LOCMEM:
        setattr(LocMemTests, name, getattr(tests.LocMemCacheTests, name))
    return [*(on_a_map(one.__name__)(one)
              for one in (BaseTests, AwaitedTests, AsyncTests, LocMemTests)),
            *(getattr(tests, name) for name in WITH_A_CACHE),
            *(getattr(sessions, name) for name in WITH_SESSIONS)]


def main() -> None:
    """Run them, and write what became of each."""
    locmem.LocMemCache = Ours
    sys.path.insert(0, str(FOLDER))
    configure()
    suite = unittest.TestSuite(map(unittest.defaultTestLoader.loadTestsFromTestCase, classes()))
    runner, outcomes = DiscoverRunner(verbosity=0, interactive=False), Outcomes()
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        suite.run(outcomes)
    finally:
        runner.teardown_databases(databases)
        for name, _ in list(ours._handles):
            shmmap.unlink(name, missing_ok=True)
    Path(sys.argv[2]).write_text(json.dumps(outcomes.found))


if __name__ == "__main__":
    main()
