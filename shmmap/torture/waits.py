"""How long survivors waited because a lock's holder was dead.

An operation that waited for a lock while, or soon after, somebody was killed counts from the
death, or from its start if that was later. Where several holders of the lock died in turn in
one wait, each death is charged with the time until the next. Operations that overlap a time in
which a worker was stopped, or in which the parent held locks to check the map, are counted apart.
So are those that went over to a map that replaced theirs; one that waited for a replacer that died,
or was broken off by a signal, counts from then, and has a limit of its own: that one held every
shard, and who comes after it asks for the creation lock, too.

On a busy machine a wait is also made of the scheduler running others. The kernel tells for how
long the one who waits, those who repair meanwhile, and the one who dies could have run and were
not let. "When free" is a wait less what of it was surely such a delay of one of them; in a map
of several shards, one of them may have had to do with another shard than the one waited for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from .ledger import BROKEN_OFF, CALLS, LAST_DEATH, LAST_HELD, NUMBER_OF, Ledger, Notice

_LONG_BY_NATURE = {NUMBER_OF[name] for name in (
    "list", "sweep", "attach", "verify", "resizing",
)}
_SOON_NS = 3 * 10**8  # a wait that begins later after a death has another cause, unless it
# was for the lock that the dead one held
_DESCRIBED = 3  # waits that a report tells of one by one


class Waits:
    """Gathers what the lanes noticed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since = [0] * len(ledger.lanes)
        self._deaths: list[int] = []
        self._holders: list[int] = []  # the deaths of those who held the one lock that there is
        self._replacers: list[int] = []  # when those who were to replace the map died
        self._of_replacers: set[int] = set()  # the same, all of them
        self._movers: set[int] = set()  # when those who moved the map died
        self._moved: list[tuple[int, int]] = []
        self._marked: list[tuple[int, int]] = []
        self._delays: list[tuple[int, int, int]] = []  # of the dying, and of the parent
        self._raw: dict[int, int] = {}  # by death: the longest wait for a lock
        self._free: dict[int, int] = {}  # the same, "when free"
        self._taken_over: set[int] = set()  # deaths whose lock a survivor took over
        self._described: list[tuple[int, str]] = []  # the longest "when free", longest first
        self.longest_operation_ns = 0
        self.longest_in_turn_ns = 0
        self.longest_while_stopped_ns = 0
        self.longest_while_replaced_ns = 0
        self.longest_while_moved_ns = 0
        self.longest_without_death_ns = 0

    def died(self, at_ns: int, replacer: bool = False) -> None:
        """Note a death."""
        (self._replacers if replacer else self._deaths).append(at_ns)

    def held(self, at_ns: int) -> None:
        """Note that who died then held the lock, in a map that has just one."""
        self._holders.append(at_ns)

    def mark(self, from_ns: int, until_ns: int) -> None:
        """Count what overlaps this time apart."""
        self._marked.append((from_ns, until_ns))

    def moved(self, from_ns: int, until_ns: int) -> None:
        """Note that the main map was on its way to another shape."""
        self._moved.append((from_ns, until_ns))

    def mover_died(self, at_ns: int) -> None:
        """Note that who died then, as noted by `died`, was its mover."""
        self._movers.add(at_ns)

    def delay(self, from_ns: int, until_ns: int, delay_ns: int) -> None:
        """Note for how long somebody who held the others up was not let run."""
        self._delays.append((from_ns, until_ns, delay_ns))

    def collect(self) -> None:
        """Fetch what the lanes have noticed; nobody is stopped now."""
        self._replacers = self._with_those_of_lanes(BROKEN_OFF, self._replacers)
        self._of_replacers.update(self._replacers)
        self._deaths = self._with_those_of_lanes(LAST_DEATH, [*self._deaths, *self._replacers])
        self._holders = self._with_those_of_lanes(LAST_HELD, self._holders)
        noticed: list[Notice] = []
        for i, lane in enumerate(self._ledger.lanes):
            self._since[i], fresh = lane.notices(self._since[i])
            noticed += fresh
        self._delays += [(one.began, one.ended, one.delay_ns) for one in noticed if one.took_over]
        for one in noticed:
            if one.call not in _LONG_BY_NATURE:
                self._take(one)
        # nothing older than that is noticed any more
        del self._marked[:-50], self._deaths[:-200], self._delays[:-200], self._holders[:-200]
        del self._replacers[:-50], self._moved[:-200]

    def _with_those_of_lanes(self, word: int, deaths: list[int]) -> list[int]:
        """Add what the lanes tell of: the deaths of killed children, for one."""
        return sorted(({lane.words[word] for lane in self._ledger.lanes} - {0}).union(deaths))

    def _take(self, one: Notice) -> None:
        began, ended = one.began, one.ended
        if any(began < until and ended > since for since, until in self._marked):
            self.longest_while_stopped_ns = max(self.longest_while_stopped_ns, ended - began)
            return
        if one.followed:
            self.longest_while_replaced_ns = max(self.longest_while_replaced_ns, ended - began)
            return
        deaths = self._deaths
        # while a replacer lived who held every shard, no death before its own made anybody wait
        i = bisect_left(deaths, max([began, *(at for at in self._replacers if at < ended)]))
        if i == len(deaths) or deaths[i] > ended:
            i -= 1  # nobody died meanwhile: the last death before
        if i < 0 or (began - deaths[i] > _SOON_NS and not one.took_over):
            self.longest_without_death_ns = max(self.longest_without_death_ns, ended - began)
            if any(began < until and ended > since for since, until in self._moved):
                self.longest_while_moved_ns = max(self.longest_while_moved_ns, ended - began)
            return
        since = max(began, deaths[i])
        self.longest_operation_ns = max(self.longest_operation_ns, ended - since)
        if not one.waited:
            return
        later = [death for death in self._holders if since < death < ended]
        if later:
            self.longest_in_turn_ns = max(self.longest_in_turn_ns, ended - since)
        for death, (start, end) in zip(
            (deaths[i], *later), pairwise((since, *later, ended)), strict=True
        ):
            self._charge(death, start, end, one)
        if one.took_over:
            self._taken_over.add(later[-1] if later else deaths[i])

    def _charge(self, death: int, start: int, end: int, one: Notice) -> None:
        wait = end - start
        self._raw[death] = max(self._raw.get(death, 0), wait)
        if wait > self._free.get(death, 0):
            own = (one.began, one.ended, one.delay_ns)
            free = wait - _surely_delayed(start, end, [own, *self._delays])
            self._free[death] = max(self._free.get(death, 0), free)
            self._describe(free, death, end, one)

    def _describe(self, free: int, since: int, until: int, one: Notice) -> None:
        if len(self._described) == _DESCRIBED and free <= self._described[-1][0]:
            return
        dead = bisect_right(self._deaths, until) - bisect_left(self._deaths, since)
        moved = any(since < end and until > begin for begin, end in self._moved)
        text = (f"{free / 1e6:.1f} ms of {(one.ended - one.began) / 1e6:.1f} in "
                f"{CALLS[one.call]!r}, {one.delay_ns / 1e6:.1f} not let run; "
                f"{'took the lock over' if one.took_over else 'another took the lock over'}; "
                f"deaths in it: {dead}{'; the map was moved' if moved else ''}; "
                f"ended at {until / 1e9:.3f} s of the clock")
        self._described = sorted([*self._described, (free, text)], reverse=True)[:_DESCRIBED]

    def describe(self) -> list[str]:
        """Return what is known of the longest waits for the dead, a line each."""
        return [text for _, text in self._described]

    def after_takeover_ms(self, share: float) -> float:
        """Return a quantile of the longest waits after deaths whose lock was taken over."""
        return _quantile_ms([self._raw[death] for death in self._taken_over], share)

    def after_death_ms(self, share: float, deaths: int, free: bool = False) -> float:
        """Return the same over all deaths; after most of them nobody has to wait."""
        waited = list((self._free if free else self._raw).values())
        return _quantile_ms(waited + [0] * (deaths - len(waited)), share)

    def longest_ms(self, free: bool = False, replacers: bool = False) -> float:
        """Return the longest wait for a dead worker, or for a dead replacer."""
        waited = self._free if free else self._raw
        return max([wait for death, wait in waited.items()
                    if (death in self._of_replacers) is replacers], default=0) / 1e6

    def longest_for_mover_ms(self, free: bool = False) -> float:
        """Return the longest wait for a dead mover."""
        waited = self._free if free else self._raw
        return max([wait for death, wait in waited.items() if death in self._movers],
                   default=0) / 1e6

    @property
    def takeovers(self) -> int:
        """After how many deaths a measured survivor took a lock over."""
        return len(self._taken_over)


def _quantile_ms(values: list[int], share: float) -> float:
    """Return a quantile of nanoseconds, in milliseconds."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] / 1e6 if values else 0.0


def _surely_delayed(since: int, until: int, delays: list[tuple[int, int, int]]) -> int:
    """Return for how long at least, of an interval, somebody was kept from running: `delays` are
    intervals of their own, each with how much of it was delay, wherever in it that was."""
    counted: list[tuple[int, int]] = []
    total = 0
    inside = [one for one in delays if one[0] < until and one[1] > since]
    for begin, end, delay in sorted(inside, key=lambda one: -one[2]):
        first, last = max(begin, since), min(end, until)
        elsewhere = (end - begin) - (last - first)
        twice = sum(max(0, min(last, b) - max(first, a)) for a, b in counted)
        if delay > elsewhere + twice:
            total += delay - elsewhere - twice
            counted.append((first, last))
    return total
