"""What a backend does not take is refused when it is made, and told in the words of its users."""

from __future__ import annotations

import datetime
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import shmmap
from shmmap.contrib.alike import LikeDiskcache, LikeRedis
from shmmap.contrib.part import OPTIONS, Part
from shmmap.contrib.starlette import CacheMiddleware, SessionMiddleware

from ..support.leftovers import SHM, control_file

Make = Callable[..., Any]


def _session(*given: Any, **said: Any) -> Any:
    return SessionMiddleware(_app, *given, **said)


def _cache(*given: Any, **said: Any) -> Any:
    return CacheMiddleware(_app, *given, **said)


async def _app(*_: Any) -> None:
    raise NotImplementedError


def _cachelib(*given: Any, **said: Any) -> Any:
    pytest.importorskip("cachelib")
    from shmmap.contrib.cachelib import ShmMapCache

    return ShmMapCache(*given, **said)


def _flask_caching(name: str, **said: Any) -> Any:
    flask, caching = pytest.importorskip("flask"), pytest.importorskip("flask_caching")
    config = {"CACHE_TYPE": "shmmap.contrib.flask_caching.ShmMapCache",
              "CACHE_OPTIONS": {"name": name, **said}}
    return caching.Cache(flask.Flask("app"), config=config).cache


def _limits(name: str, **said: Any) -> Any:
    pytest.importorskip("limits")
    from shmmap.contrib.limits import ShmMapStorage

    query = "&".join(f"{option}={value}" for option, value in said.items())
    return ShmMapStorage(f"shmmap://{name}?{query}")


def _async_limits(name: str, **said: Any) -> Any:
    pytest.importorskip("limits")
    from shmmap.contrib.limits import AsyncShmMapStorage

    return AsyncShmMapStorage(f"async+shmmap://{name}", **said)


def _aiocache(*given: Any, **said: Any) -> Any:
    pytest.importorskip("aiocache")
    from shmmap.contrib.aiocache import ShmMapCache

    return ShmMapCache(*given, **said)


def _dogpile(name: str, **said: Any) -> Any:
    region = pytest.importorskip("dogpile.cache").make_region()
    pytest.importorskip("shmmap.contrib.dogpile")
    return region.configure("shmmap", arguments={"name": name, **said}).backend


def _joblib(name: str, **said: Any) -> Any:
    joblib = pytest.importorskip("joblib")
    pytest.importorskip("shmmap.contrib.joblib")
    memory = joblib.Memory("here", backend="shmmap", backend_options={"name": name, **said})
    return memory.store_backend.part


def _requests_cache(*given: Any, **said: Any) -> Any:
    pytest.importorskip("requests_cache")
    from shmmap.contrib.requests_cache import ShmMapCache

    return ShmMapCache(*given, **said)


def _django(name: str, **said: Any) -> Any:
    pytest.importorskip("django")
    from shmmap.contrib.django import ShmMapCache

    return ShmMapCache(name, {"OPTIONS": said})


ALL: dict[str, tuple[Make, str, str]] = {  # with how each says the map, and its words for itself
    "Part": (Part, "m", "Part"),
    "LikeRedis": (LikeRedis, "m", "LikeRedis"),
    "LikeDiskcache": (LikeDiskcache, "m", "LikeDiskcache"),
    "SessionMiddleware": (_session, "m", "SessionMiddleware"),
    "CacheMiddleware": (_cache, "m", "CacheMiddleware"),
    "cachelib": (_cachelib, "m", "ShmMapCache"),
    "flask_caching": (_flask_caching, "name", "ShmMapCache"),
    "limits": (_limits, "the URI's host: shmmap://NAME", "shmmap:// (limits)"),
    "async limits": (_async_limits, "the URI's host: shmmap://NAME", "shmmap:// (limits)"),
    "aiocache": (_aiocache, "name", "ShmMapCache"),
    "dogpile": (_dogpile, "name", "arguments of the region"),
    "joblib": (_joblib, "name", "backend_options"),
    "requests_cache": (_requests_cache, "cache_name", "ShmMapCache"),
    "django": (_django, "LOCATION, beside OPTIONS,", "CACHES: an alias's OPTIONS"),
}


OF_THEIRS = {("aiocache", "namespace"), ("dogpile", "lock_timeout")}  # arguments of its own


def error_of(make: Make, *given: Any, **said: Any) -> Exception:
    """Return what is raised: each framework has an error of its own."""
    try:
        made = make(*given, **said)
    except Exception as error:
        return error
    raise AssertionError(f"{said} was taken: {made!r}")


def refused(which: str, map_name: str, /, *given: Any, **said: Any) -> str:
    """Return the text of the refusal. No map was made for it."""
    error = error_of(ALL[which][0], *given, **said)
    assert type(error).__name__ in ("TypeError", "ImproperlyConfigured"), repr(error)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(map_name)
    return str(error)


@pytest.mark.parametrize("which", ALL)
def test_an_unknown_option_is_named_with_all_that_there_are(which: str, name: str) -> None:
    said = refused(which, name, name, bytes="1MB")
    start = f"{ALL[which][2]}: 'bytes' is no option of ShmMap; there are auto_shards, "
    assert said.startswith(start)
    assert {"size", "on_full", "namespace"} < set(said.partition("; there are ")[2].split(", "))


@pytest.mark.parametrize("which", ALL)
def test_every_option_that_is_listed_is_one(which: str, name: str) -> None:
    """Whatever the text lists passes the check: its value is what is refused then."""
    for option in refused(which, name, name, bytes=1).partition("; there are ")[2].split(", "):
        if (which, option) in OF_THEIRS or option in ("key_prefix", "strict"):  # take anything
            continue
        text = str(error_of(ALL[which][0], name, **{option: "<>"}))
        assert "no option" not in text and "unexpected" not in text, option


@pytest.mark.parametrize("which", ALL)
def test_what_others_call_an_option_is_told_ours(which: str, name: str) -> None:
    said = refused(which, name, name, maxsize=5)
    assert said.endswith("'maxsize' is no option of ShmMap; here it is capacity= (entries) or "
                         "size= (bytes)")


@pytest.mark.parametrize("which", ALL)
def test_another_name_for_the_map_is_told_ours(which: str, name: str) -> None:
    named = ALL[which][1]
    for theirs in {"map_name", "location", "cache_name"} - {named}:
        said = refused(which, name, name, **{theirs: name})
        assert said.endswith(f"the map's name, or a handle on it, is {named} here")


@pytest.mark.parametrize("which", ["SessionMiddleware", "CacheMiddleware", "cachelib"])
def test_a_map_that_is_not_said(which: str, name: str) -> None:
    assert "is m here" in refused(which, name, name=name)
    assert refused(which, name) == "say the map's name, or a handle on it"
    assert refused(which, name, None) == "say the map's name, or a handle on it, not NoneType"


@pytest.mark.parametrize("which, instead", [
    ("SessionMiddleware", "say max_age"), ("cachelib", "say default_timeout"),
    ("flask_caching", "say CACHE_DEFAULT_TIMEOUT, beside CACHE_OPTIONS"),
    ("django", "say TIMEOUT, beside OPTIONS"),
])
def test_a_ttl_that_would_count_for_no_entry_is_refused(
    which: str, instead: str, name: str
) -> None:
    assert refused(which, name, name, ttl=60).endswith(f"'ttl' is no option here; {instead}")
    assert refused(which, name, name, expire=60).endswith(f"of ShmMap; {instead}")


def test_who_comes_from_starlettes_sessions_is_told_what_to_change(name: str) -> None:
    said = refused("SessionMiddleware", name, name, secret_key="s")
    assert "'secret_key' is no option of ShmMap; leave it out" in said
    assert refused("SessionMiddleware", name, name, session_cookie="s").endswith("it is cookie")


@pytest.mark.parametrize("which", ALL)
def test_reprs_name_the_map(which: str, name: str) -> None:
    if which == "django":
        pytest.skip("it is tested beside its backend, which keeps its handles")
    backend = ALL[which][0](name, size="1MB")
    assert re.search(rf"^<\w+[:(].*{name}.*>$", repr(backend)) and len(repr(backend)) < 120
    assert " at 0x" not in repr(backend)
    backend.map.unlink()
    backend.map.close()


@pytest.mark.parametrize("which, said", [
    ("SessionMiddleware", {"max_age": "60"}), ("CacheMiddleware", {"ttl": "60"}),
    ("CacheMiddleware", {"ttl": True}), ("cachelib", {"default_timeout": "60"}),
    ("cachelib", {"default_timeout": None}),
])
def test_times_that_are_none(which: str, said: dict[str, Any], name: str) -> None:
    """As of os.environ: refused when it is made, where a request would fail."""
    (option, value), = said.items()
    told = refused(which, name, name, **said)
    assert re.match(rf"{option} must be seconds \(int, float or timedelta\).*, not "
                    rf"{type(value).__name__}$", told)


@pytest.mark.parametrize("which, said, told", [
    ("CacheMiddleware", {"ttl": -1}, r"ttl=-1: give 0 seconds or more, or None"),
    ("CacheMiddleware", {"ttl": float("nan")}, "ttl=nan"),
    ("SessionMiddleware", {"max_age": float("nan")}, "max_age=nan"),
    ("SessionMiddleware", {"max_age": 0}, "max_age=0"),
    ("SessionMiddleware", {"same_site": "loose"},
     "same_site='loose' must be one of lax, strict, none"),
    ("SessionMiddleware", {"same_site": None}, "same_site=None must be one of"),
])
def test_values_that_no_response_could_have(
    which: str, said: dict[str, Any], told: str, name: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ALL[which][0](name, **said)
    with pytest.raises(shmmap.MapNotFound):
        shmmap.ShmMap.attach(name)


def test_times_of_any_kind_are_taken(name: str) -> None:
    minute = datetime.timedelta(minutes=1)
    with shmmap.ShmMap(name, size="1MB") as m:
        assert _cache(m, ttl=minute).ttl == 60 and _cache(m, ttl=0).ttl == 0
        assert _cache(m, ttl=None).ttl is None and _session(m, max_age=minute).ttl == 60
        _session(m, same_site="Strict")
        m.unlink()


@pytest.mark.parametrize("said, bits", [("0660", "660"), ("660", "660"), ("600", "600")])
def test_a_mode_of_a_uri_that_is_not_written_as_octal(said: str, bits: str, name: str) -> None:
    error = error_of(_limits, name, mode=said)
    assert type(error).__name__ == "ConfigurationError"
    assert str(error) == f"mode={said} in the URI: write mode=0o{bits}"


def test_a_mode_of_a_uri(name: str) -> None:
    for said in ("0o660", "432"):
        storage = _limits(name, mode=said, size="1MB")
        assert (SHM / control_file(name)).stat().st_mode & 0o777 == 0o660
        storage.map.unlink()
        storage.map.close()


def test_what_is_too_large_will_never_be_kept(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    part = Part(name, size="300KB", shards=1)
    assert part.set("big", "x" * 1_000_000) is False
    assert "'big' cannot be written (EntryTooLarge: " in caplog.text
    assert "just now" not in caplog.text
    part.map.unlink()
    part.close()


@pytest.mark.parametrize("which", ["flask_caching", "limits", "cachelib", "SessionMiddleware"])
def test_to_resize_it_the_next_deploy_says_so(which: str, name: str) -> None:
    """As the pages say; Django's keeps its handle, and opens it in the same way."""
    before = ALL[which][0](name, size="1MB")
    before.map["mine"] = 1
    after = ALL[which][0](name, size="2MB", on_mismatch="resize")
    assert before.map["mine"] == 1 and after.map.resize().wait(60)
    assert after.map.size == before.map.size == 2_000_000
    after.map.unlink()
    for handle in (before.map, after.map):
        handle.close()


def test_options_are_those_of_shmmap() -> None:
    """A new option of ShmMap is one of every backend, too."""
    takes = {option for option in inspect.signature(shmmap.ShmMap).parameters
             if not option.startswith("_")}
    assert takes - {"name", "unknown"} == OPTIONS - {"strict"}
