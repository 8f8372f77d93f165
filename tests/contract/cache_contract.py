"""What a map does as a cache: deadlines, conditional writes, counters, versions, batches."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

FOREVER = [None, float("inf"), 3e9, 1e300]
AT_ONCE = [0, 0.0, -0.0, -1, -0.5, float("-inf")]
YEAR = 31_557_600
MAX = 2**63 - 1
MIN = -(2**63)


class CacheContract:
    """Tests over a map `m` whose clock stands still, and over `clock`, which moves it."""

    parameters: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def m(self, make: Any) -> Any:
        return make(**self.parameters)

    @pytest.fixture
    def clock(self, m: Any, freeze: Any) -> Any:
        return freeze(m)

    @pytest.fixture(autouse=True)
    def sound(self, m: Any, clock: Any) -> Any:
        yield
        if not m.closed:
            assert m.check() == []

    # -- deadlines --------------------------------------------------------------------

    def test_an_entry_lives_until_its_deadline(self, m, clock):
        m.set("k", "v", ttl=5)
        assert m.ttl("k") == 5.0
        clock.advance(4.999999999)
        assert m["k"] == "v"
        assert m.ttl("k") == pytest.approx(1e-9)
        clock.advance(1e-9)
        assert "k" not in m

    def test_an_expired_entry_is_absent_to_every_operation(self, m, clock):
        def expire() -> None:
            m.set("k", "v", ttl=1)
            clock.advance(1)

        for check in (
            lambda: m.get("k", 7) == 7,
            lambda: "k" not in m,
            lambda: len(m) == 0,
            lambda: not m,
            lambda: list(m) == list(m.items()) == list(m.values()) == [],
            lambda: m.pop("k", 7) == 7,
            lambda: m.delete("k") is False,
            lambda: m.delete_many(["k"]) == 0,
            lambda: m.touch("k", 10) is False,
            lambda: m.replace("k", 1) is False,
            lambda: m.get_versioned("k", 7) == (7, 0),
            lambda: m.get_many(["k"]) == {},
            lambda: m.add("k", 1) is True,
            lambda: m.cas("k", 1, 0) is True,
            lambda: m.setdefault("k", 1) == 1,
            lambda: m.incr("k", 2, initial=40) == 42,
            lambda: m == {},
        ):
            expire()
            assert check()
            m.clear()
        expire()
        for use in (lambda: m["k"], lambda: m.ttl("k"), lambda: m.pop("k"), m.popitem):
            with pytest.raises(KeyError):
                use()
        with pytest.raises(KeyError):
            del m["k"]

    def test_a_map_is_true_while_there_is_a_live_entry(self, m, clock):
        assert not m
        for number in range(50):
            m.set(number, 1, ttl=1 + number % 2)
        for waited_s, live in ((0, 50), (1, 25), (1, 0)):
            clock.advance(waited_s)
            assert bool(m) is bool(live) and len(m) == live
        m["forever"] = 1
        assert m and len(m) == 1
        del m["forever"]
        assert not m
        m.sweep()
        assert not m

    def test_the_version_of_an_expired_entry_is_worth_nothing(self, m, clock):
        m.set("k", "v", ttl=1)
        version = m.get_versioned("k")[1]
        clock.advance(1)
        assert m.cas("k", "new", version) is False
        assert "k" not in m

    @pytest.mark.parametrize("ttl", FOREVER)
    def test_no_deadline(self, m, clock, ttl):
        m.set("k", 1, ttl=ttl)
        assert m.ttl("k") is None
        clock.advance(10**8)
        assert m["k"] == 1

    @pytest.mark.parametrize("ttl", AT_ONCE)
    def test_expired_at_once(self, m, ttl):
        m["k"] = 1
        m.set("k", 2, ttl=ttl)
        assert "k" not in m
        assert m.add("k", 3, ttl=ttl) is True
        assert "k" not in m
        assert m.incr("n", 5, ttl=ttl) == 5
        assert "n" not in m
        assert m.setdefault("k", 4, ttl=ttl) == 4
        assert "k" not in m
        m["k"] = 5
        assert m.touch("k", ttl) is True
        assert "k" not in m
        assert len(m) == 0
        m["k"] = 6
        assert m.cas("k", 7, m.get_versioned("k")[1], ttl=ttl) is True
        assert m.replace("k", 8) is False

    def test_a_ttl_below_the_clocks_step_is_not_forever(self, m, clock):
        clock.advance(1e-9)
        m.set("k", 1, ttl=1e-12)
        clock.advance(1 / 64)
        assert "k" not in m

    @pytest.mark.parametrize("ttl", [1e-9, 1 / 64, 0.1, 1, 1.0000001, 59.99, 10**6 + 0.3])
    def test_a_deadline_is_rounded_up_to_a_64th_of_a_second(self, m, clock, ttl):
        for passed in (0.0, 1e-9, 0.3, 1 / 64):
            clock.advance(passed)
            m.set("k", 1, ttl=ttl)
            clock.advance(ttl - 2e-9)
            assert m["k"] == 1 and len(m) == 1 and list(m) == ["k"]
            left = m.ttl("k")
            assert 0 < left <= 1 / 64
            clock.advance(1 / 64 + 2e-9)
            assert "k" not in m and len(m) == 0 and not list(m)

    def test_a_ttl_of_whole_seconds_is_never_said_to_be_longer(self, m, clock):
        for passed in (1e-9, 1e-3, 0.0156, 1 / 64, 0.7):
            clock.advance(passed)
            m.set("k", 1, ttl=60)
            assert 60 - 1 / 64 <= m.ttl("k") <= 60
            clock.advance(1 / 64)
            assert 60 - 2 / 64 <= m.ttl("k") <= 60 - 1 / 64

    def test_a_ttl_of_many_years(self, m, clock):
        for ttl, off in ((2 * YEAR, 1 / 64), (2.5 * YEAR, 1), (90 * YEAR, 64)):
            clock.advance(1e-9)
            m.set("k", 1, ttl=ttl)
            assert ttl - 1 / 64 <= m.ttl("k") <= ttl + off
            clock.advance(ttl)
            assert m["k"] == 1
            clock.advance(off)
            assert "k" not in m
            clock.advance(-ttl - off)

    @pytest.mark.parametrize(
        ("ttl", "error"),
        [(float("nan"), ValueError), ("5", TypeError), (True, TypeError), ([], TypeError)],
    )
    def test_a_senseless_ttl_changes_nothing(self, m, ttl, error):
        m["k"], m["n"] = 1, 1
        version = m.get_versioned("k")[1]
        for use in (m.set, m.add, m.replace, m.setdefault):
            with pytest.raises(error):
                use("new", 2, ttl=ttl) if use != m.replace else use("k", 2, ttl=ttl)
        for call in (
            lambda: m.touch("k", ttl), lambda: m.cas("k", 2, version, ttl=ttl),
            lambda: m.incr("n", 1, ttl=ttl), lambda: m.set_many({"k": 2}, ttl=ttl),
        ):  # fmt: skip
            with pytest.raises(error):
                call()
        assert m == {"k": 1, "n": 1}
        assert m.get_versioned("k")[1] == version

    def test_an_overwrite_never_keeps_the_old_ttl(self, m):
        for write in (
            lambda: m.__setitem__("k", 2),
            lambda: m.set("k", 2),
            lambda: m.replace("k", 2),
            lambda: m.cas("k", 2, m.get_versioned("k")[1]),
            lambda: m.set_many({"k": 2}),
            lambda: m.update(k=2),
            lambda: m.__ior__({"k": 2}),
        ):
            m.set("k", 1, ttl=100)
            write()
            assert m["k"] == 2
            assert m.ttl("k") is None
        m.set("k", 3, ttl=100)
        m.set("k", 4, ttl=7)
        assert m.ttl("k") == 7.0

    def test_touch(self, m, clock):
        assert m.touch("k", 5) is False
        m["k"] = "v"
        assert m.touch("k", 5) is True
        assert m.ttl("k") == 5.0
        assert m.touch("k", 50) is True
        clock.advance(49)
        assert m["k"] == "v"
        assert m.touch("k", None) is True
        assert m.ttl("k") is None
        m.touch("k", 5)
        assert m.touch("k") is True, "the map has no default: no deadline"
        assert m.ttl("k") is None

    def test_ttl_of_a_missing_key(self, m):
        with pytest.raises(KeyError) as caught:
            m.ttl("none")
        assert caught.value.args == ("none",)

    def test_sweep_removes_what_expired_and_nothing_else(self, m, clock):
        m.set_many({("goes", i): i for i in range(60)}, ttl=1)
        m.set_many({("stays", i): i for i in range(30)}, ttl=100)
        clock.advance(1)
        report = m.sweep()
        # a writer reclaims a few on the way; both ways of going are counted
        assert report.expired == m.stats().expired == 60
        assert m.stats().entries == 30
        assert sorted(m) == [("stays", i) for i in range(30)]

    # -- conditional writes -----------------------------------------------------------

    def test_add_writes_only_what_is_not_there(self, m):
        assert m.add("k", 1, ttl=5) is True
        assert m.add("k", 2, ttl=50) is False
        assert m["k"] == 1
        assert m.ttl("k") == 5.0

    def test_replace_writes_only_what_is_there(self, m):
        assert m.replace("k", 1) is False
        assert "k" not in m
        m["k"] = 1
        assert m.replace("k", 2, ttl=5) is True
        assert m["k"] == 2
        assert m.ttl("k") == 5.0

    def test_delete(self, m):
        assert m.delete("k") is False
        m["k"] = 1
        assert m.delete("k") is True
        assert m.delete("k") is False

    def test_cas_writes_only_what_nobody_changed(self, m):
        m["k"] = 1
        value, version = m.get_versioned("k")
        assert value == 1
        assert m.cas("k", 2, version, ttl=5) is True
        assert m.cas("k", 3, version) is False
        assert m["k"] == 2
        assert m.ttl("k") == 5.0

    def test_version_zero_is_no_entry(self, m):
        assert m.get_versioned("k") == (None, 0)
        assert m.get_versioned("k", "d") == ("d", 0)
        assert m.cas("k", 1, 0) is True
        assert m.cas("k", 2, 0) is False
        m.delete("k")
        assert m.cas("k", 3, 12345) is False
        assert "k" not in m

    def test_every_change_gives_a_new_and_higher_version(self, m):
        m["k"] = 1
        versions = [m.get_versioned("k")[1]]
        for change in (
            lambda: m.__setitem__("k", 1), lambda: m.incr("k"), lambda: m.touch("k", 5),
            lambda: m.touch("k", 9), lambda: m.touch("k", None), lambda: m.touch("k", None),
            lambda: m.replace("k", 1), lambda: m.delete("k") and m.add("k", 1),
        ):  # fmt: skip
            assert change() is not False
            assert m.cas("k", 0, versions[-1]) is False
            versions.append(m.get_versioned("k")[1])
        assert versions == sorted(set(versions))
        m["k"]
        assert m.get_versioned("k")[1] == versions[-1], "a read is no change"

    @pytest.mark.parametrize("version", [None, "1", 1.5, b"1"])
    def test_a_version_is_an_int(self, m, version):
        m["k"] = 1
        with pytest.raises(TypeError):
            m.cas("k", 2, version)
        assert m["k"] == 1

    @pytest.mark.parametrize("version", [-1, 2**64, 2**64 - 1, 2**63])
    def test_a_version_that_no_entry_can_have_matches_none(self, m, version):
        m["k"] = 1
        assert m.cas("k", 2, version) is False
        assert m["k"] == 1

    # -- counters ---------------------------------------------------------------------

    def test_incr(self, m):
        assert m.incr("n") == 1
        assert m.incr("n", 10) == 11
        assert m.incr("n", -12) == -1
        assert m.incr("n", 0) == -1
        assert m["n"] == -1
        assert m.incr("other", 5, initial=100) == 105
        m["set"] = 41
        assert m.incr("set") == 42
        assert m["set"] == 42

    def test_incr_keeps_the_deadline_of_a_counter_that_is_there(self, m, clock):
        assert m.incr("n", ttl=10) == 1
        clock.advance(4)
        assert m.incr("n", ttl=100) == 2
        assert m.ttl("n") == 6.0
        assert m.incr("n", ttl=None) == 3
        assert m.incr("n", ttl=-1) == 4
        assert m.ttl("n") == 6.0
        clock.advance(6)
        assert m.incr("n") == 1
        assert m.ttl("n") is None

    @pytest.mark.parametrize(
        ("start", "delta"),
        [(MAX, 1), (MIN, -1), (1, MAX), (-2, MIN), (MAX, MAX), (MIN, MIN), (0, 2**63)],
    )
    def test_an_overflow_leaves_the_counter_as_it_was(self, m, start, delta):
        m.set("n", start, ttl=50)
        version = m.get_versioned("n")[1]
        with pytest.raises(OverflowError):
            m.incr("n", delta)
        assert m.get_versioned("n") == (start, version)
        assert m.ttl("n") == 50.0

    @pytest.mark.parametrize(
        ("start", "delta"),
        [(MAX, MIN), (MIN, MAX), (0, MIN), (0, MAX), (MAX - 1, 1), (MIN + 1, -1), (-1, MIN + 1)],
    )
    def test_counters_reach_every_64_bit_integer(self, m, start, delta):
        m["n"] = start
        assert m.incr("n", delta) == start + delta
        assert m["n"] == start + delta

    def test_initial_does_not_matter_to_a_counter_that_is_there(self, m):
        m["n"] = -5
        assert m.incr("n", MAX, initial=MAX) == MAX - 5

    def test_a_new_counter_must_fit_too(self, m):
        assert m.incr("low", MIN) == MIN
        assert m.incr("high", 1, initial=MAX - 1) == MAX
        for delta, initial in ((1, MAX), (-1, MIN), (MAX + 1, 0), (0, MIN - 1)):
            with pytest.raises(OverflowError):
                m.incr("n", delta, initial=initial)
        assert "n" not in m

    @pytest.mark.parametrize("value", ["1", b"1", True, None, [1]], ids=repr)
    def test_incr_of_anything_else_is_a_type_error(self, m, value):
        m["n"] = value
        with pytest.raises(TypeError, match=f"no number .*{type(value).__name__}.*m.apply"):
            m.incr("n")
        assert m["n"] == value and type(m["n"]) is type(value)

    def test_incr_of_an_int_that_is_too_large_is_an_overflow(self, m):
        m["n"] = MAX + 1
        with pytest.raises(OverflowError, match="leaves 64 bits"):
            m.incr("n")
        assert m["n"] == MAX + 1 and m.incr("n", -1) == MAX

    def test_incr_of_floats(self, m):
        assert m.incr("n", 0.5) == 0.5 and m.incr("n", 2) == 2.5 and m["n"] == 2.5
        m["i"] = 1
        assert m.incr("i", 1.0) == 2.0 and type(m["i"]) is float

    @pytest.mark.parametrize("delta", ["1", True, None])
    def test_a_delta_is_a_number(self, m, delta):
        with pytest.raises(TypeError, match="delta"):
            m.incr("n", delta)
        with pytest.raises(TypeError, match="initial"):
            m.incr("n", initial=delta)
        assert "n" not in m

    def test_counters_under_keys_of_every_length(self, m):
        for length in (*range(40), 119, 120, 121, 250, 1000):
            key = "k" * length
            assert m.incr(key, initial=length) == length + 1
            assert m.incr(key, -1) == length
            assert m[key] == length
        assert len(m) == 45

    # -- batches ----------------------------------------------------------------------

    def test_many(self, m):
        m.set_many({"a": 1, "b": 2}, ttl=5)
        m.set_many([("c", 3)])
        assert m.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3}
        assert m.get_many(iter(["c"])) == {"c": 3}
        assert (m.ttl("a"), m.ttl("c")) == (5.0, None)
        assert m.delete_many(["a", "a", "d", "c"]) == 2
        assert m.get_many([]) == {}
        assert m.delete_many([]) == 0
        m.set_many({})
        assert m == {"b": 2}

    def test_an_error_in_a_batch_leaves_what_came_before(self, m):
        with pytest.raises(TypeError):
            m.set_many([("a", 1), ([], 2), ("b", 3)])
        assert m == {"a": 1}


class DefaultTtlContract:
    """Tests over a map with ttl=10: what takes the default, and what says otherwise."""

    parameters: ClassVar[dict[str, Any]] = {}

    def test_every_write_without_a_ttl_starts_the_default_anew(self, make, freeze):
        m = make(ttl=10, **self.parameters)
        clock = freeze(m)
        for write in (
            lambda: m.__setitem__("k", 2),
            lambda: m.set("k", 2),
            lambda: m.replace("k", 2),
            lambda: m.cas("k", 2, m.get_versioned("k")[1]),
            lambda: m.set_many({"k": 2}),
            lambda: m.update(k=2),
            lambda: m.__ior__({"k": 2}),
            lambda: m.touch("k"),
            lambda: m.delete("k") and m.add("k", 2),
            lambda: m.delete("k") and m.setdefault("k", 2),
            lambda: m.delete("k") and m.incr("k", 2),
        ):
            for old in (100, None, 3):
                m.set("k", 1, ttl=old)
                clock.advance(1)
                write()
                assert m.ttl("k") == 10.0
        assert m.set("k", 1, ttl=None) is None
        assert m.ttl("k") is None
        assert m.incr("k") == 2
        assert m.ttl("k") is None, "a counter keeps its deadline, and the want of one"
        m["k"] = 1
        clock.advance(10)
        assert "k" not in m
        assert m.check() == []
