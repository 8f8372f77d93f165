"""Namespaces: a part of a map's name, from an argument or from the environment."""

from __future__ import annotations

import pickle
from enum import Enum
from typing import Any

import pytest

import shmmap
from shmmap.lifecycle import names

from ...support.leftovers import objects_of


class Colour(str, Enum):
    RED = "red"


@pytest.fixture
def opened(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open the test's map in namespaces; all are unlinked at the end."""
    monkeypatch.delenv(names.VARIABLE, raising=False)
    made: list[shmmap.ShmMap] = []

    def open_map(called: str = name, **arguments: Any) -> shmmap.ShmMap:
        made.append(shmmap.ShmMap(called, size="1MB", sweep_interval=None, **arguments))
        return made[-1]

    yield open_map
    for m in made:
        if not m.closed:
            m.unlink()
            m.close()


@pytest.mark.parametrize(("said", "environment", "full"), [
    ({}, None, "cache"), ({}, "", "cache"), ({}, "shop", "shop@cache"),
    ({"namespace": None}, "shop", "shop@cache"), ({"namespace": ""}, "shop", "cache"),
    ({"namespace": ""}, None, "cache"), ({"namespace": "blog"}, "shop", "blog@cache"),
    ({"namespace": Colour.RED}, None, "red@cache"),
    ({"namespace": "n" * 50}, "a.b", "n" * 50 + "@cache"),
])
def test_the_full_name(monkeypatch, said, environment, full):
    monkeypatch.delenv(names.VARIABLE, raising=False)
    if environment is not None:
        monkeypatch.setenv(names.VARIABLE, environment)
    assert names.full_name("cache", **said) == full
    assert names.check_name(full) == full and type(names.full_name("cache", **said)) is str


def test_a_name_that_says_its_namespace_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv(names.VARIABLE, "shop")
    assert names.full_name("blog@cache") == names.full_name("blog@cache", "blog") == "blog@cache"
    for other in ("shop", ""):
        with pytest.raises(ValueError, match="leave one of them out"):
            names.full_name("blog@cache", other)


@pytest.mark.parametrize("wrong", ["a.b", "a/b", "a b", "a@b", "é", "n" * 51, "a\n"])
def test_what_is_no_namespace(monkeypatch, wrong):
    with pytest.raises(ValueError, match=r"namespace=.*1 to 50"):
        names.full_name("cache", wrong)
    monkeypatch.setenv(names.VARIABLE, wrong)
    with pytest.raises(ValueError, match=r"environment's SHMMAP_NAMESPACE=.*1 to 50"):
        names.full_name("cache")
    assert names.full_name("cache", "") == "cache"


@pytest.mark.parametrize("wrong", [1, b"shop", True, ["shop"]])
def test_what_is_no_str_is_no_namespace(wrong):
    with pytest.raises(TypeError, match="namespace= must be a str or None"):
        names.full_name("cache", wrong)


@pytest.mark.parametrize(
    "wrong", ["@", "@cache", "shop@", "a@b@c", "shop@a.b", "a.b@c", "x@" + "n" * 101]
)
def test_what_is_no_full_name(wrong):
    with pytest.raises(ValueError, match="cannot be a map's name"):
        names.full_name(wrong)


def test_maps_of_two_namespaces_do_not_meet(opened, name):
    shop, blog, plain = opened(namespace="shop"), opened(namespace="blog"), opened()
    for number, m in enumerate((shop, blog, plain)):
        m["a"] = number
    assert [m["a"] for m in (shop, blog, plain)] == [0, 1, 2]
    assert [(m.name, m.namespace) for m in (shop, blog, plain)] == [
        (f"shop@{name}", "shop"), (f"blog@{name}", "blog"), (name, "")
    ]
    assert shmmap.ShmMap.attach(f"shop@{name}")["a"] == 0
    assert repr(shop).startswith(f"<ShmMap 'shop@{name}'")
    shop.unlink()
    assert objects_of(f"shop@{name}") == [] and blog["a"] == 1
    with pytest.raises(shmmap.MapNotFound, match=f"shop@{name}"):
        shmmap.ShmMap.attach(name, namespace="shop")


def test_the_environment_counts_at_each_opening(opened, name, monkeypatch):
    monkeypatch.setenv(names.VARIABLE, "shop")
    shop = opened()
    plain = opened(namespace="")
    monkeypatch.setenv(names.VARIABLE, "blog")
    assert (shop.name, plain.name, opened().name) == (f"shop@{name}", name, f"blog@{name}")


def test_a_pickle_finds_its_map_in_any_environment(opened, monkeypatch):
    shop, plain = opened(namespace="shop"), opened()
    shop["a"], plain["a"] = "shop's", "plain"
    said = pickle.dumps((shop, plain))
    monkeypatch.setenv(names.VARIABLE, "blog")
    for copy, original in zip(pickle.loads(said), (shop, plain), strict=True):
        assert (copy.name, copy["a"]) == (original.name, original["a"])


def test_a_dump_can_be_loaded_into_a_namespace(opened, name, tmp_path, monkeypatch):
    m = opened(namespace="shop")
    m["a"] = 1
    m.dump(tmp_path / "dump")
    loaded = shmmap.ShmMap.load(tmp_path / "dump", name, namespace="blog")
    try:
        assert (loaded.name, loaded["a"]) == (f"blog@{name}", 1)
    finally:
        loaded.unlink()


def test_the_longest_name_has_files(name):
    long = f"{name}-".ljust(100, "x")
    m = shmmap.ShmMap(long, namespace="n" * 50, size="80MB", shards=4096, sweep_interval=None)
    try:
        m["a"] = 1
        assert m["a"] == 1
    finally:
        m.unlink()
        m.close()


def test_a_former_argument_names_the_new_one(name):
    for call in (shmmap.ShmMap, shmmap.ShmMap.create, shmmap.ShmMap.attach):
        with pytest.raises(TypeError, match=r"'max_idle' \(here it is max_age="):
            call(name, max_idle=60)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'nothing'$"):
        shmmap.ShmMap(name, nothing=1)  # type: ignore[arg-type]
    assert objects_of(name) == []


def test_unlink_takes_names_as_opening_does(
    opened: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once removed the map of no namespace, where the environment's was meant."""
    common = opened(namespace="", on_unlinked="raise")
    shops = opened(namespace="shop")
    monkeypatch.setenv(names.VARIABLE, "shop")
    assert shmmap.unlink(name)
    with pytest.raises(shmmap.MapNotFound, match=f"shop@{name}"):
        shmmap.unlink(name)
    common["a"] = 1
    shops.close()
    assert not shmmap.unlink(name, missing_ok=True, namespace="blog")
    assert shmmap.unlink(name, namespace="")
    with pytest.raises(shmmap.MapUnlinked):
        common["a"] = 2
    with pytest.raises(ValueError, match="says its namespace already"):
        shmmap.unlink(f"shop@{name}", namespace="blog")
