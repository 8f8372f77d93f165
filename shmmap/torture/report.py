"""What a run did and found, as a table or as JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ..lifecycle.control import ENGINE
from ..printable import printable_lines
from .chaos import Chaos
from .ledger import (
    ATTACHES,
    CANCELLED,
    FORKS,
    KILLS,
    KILLS_INSIDE,
    LEFT_HALF_WAY,
    OPERATIONS,
    RAISED,
    REFUSED,
    REPLACED,
    RESIZED,
    TAKEN_OVER,
    TOO_SMALL,
    UNLINKED,
    WRITES,
)
from .maps import Maps
from .plan import LIMIT_MS, MEDIAN_LIMIT_MS, REPLACER_LIMIT_MS, Plan
from .witnesses import COUNTED

_KINDS = ("lost", "torn", "duplicate", "linearizability", "wrong", "hang", "crash", "error",
          "check", "leaked", "slow")
_SHOWN = (  # field, words for it
    ("seconds", "seconds"), ("kills", "kills"),
    ("kills_of_children", "  of workers' children"), ("kills_inside", "  inside an operation"),
    ("recovered", "  survived and verified"), ("stops", "stops (SIGSTOP)"), ("forks", "forks"),
    ("raised", "handlers that raised"), ("attaches", "attaches"), ("takeovers", "locks taken over"),
    ("repairs", "shards repaired"), ("evicted", "entries evicted"), ("expired", "entries expired"),
    ("operations", "operations"), ("writes", "writes acknowledged"),
    ("windows", "histories checked"), ("window_calls", "  calls in them"),
    ("replaced", "maps replaced"), ("refused", "  not replaced, and said why"),
    ("replacers", "  replacers killed"), ("holding", "    holding all shards"),
    ("exchanging", "    exchanging names, or after"), ("unlinked", "maps unlinked"),
    ("resized", "maps resized"), ("cancelled", "  taken back"),
    ("left_half_way", "  left half-way to others"), ("too_small", "  refused: too small"),
    ("movers", "  movers killed"), ("movers_in_the_cut", "    holding shards"),
    ("movers_at_a_moment", "    at a moment that counts"),
    ("movers_stopped", "  movers stopped"), ("moves_taken_over", "  moves taken over"),
)


class Report:
    """Gathers the figures of a run."""

    def __init__(self, plan: Plan, chaos: Chaos) -> None:
        self._plan = plan
        self._chaos = chaos
        self._began = time.monotonic()
        self.interrupted = False
        self.fields: dict[str, Any] = {}

    def figures(self, maps: Maps) -> None:
        """Take every figure, before the maps go."""
        plan, chaos, ledger = self._plan, self._chaos, self._chaos.ledger
        stats = [m.stats() for m in maps.each()]
        counts, waits = chaos.counts, chaos.waits
        self.fields = {
            "engine": ENGINE, "seed": plan.seed, "size": plan.size, "shards": plan.shards,
            "fill": ledger.filled, "workers": plan.workers, "interrupted": self.interrupted,
            "seconds": round(time.monotonic() - self._began, 1),
            "kills": self.kills(), "kills_of_children": ledger.total(KILLS),
            "kills_inside": counts["inside"] + ledger.total(KILLS_INSIDE),
            "recovered": counts["verified"] + ledger.total(KILLS),
            "stops": counts["stops"], "forks": counts["starts"] + ledger.total(FORKS),
            "raised": ledger.total(RAISED), "attaches": ledger.total(ATTACHES),
            **{name: chaos.witnesses.counted(name) + sum(getattr(one, name) for one in stats)
               for name in COUNTED},
            "operations": ledger.total(OPERATIONS), "writes": ledger.total(WRITES),
            "windows": counts["windows"], "window_calls": counts["calls"],
            "replaced": ledger.total(REPLACED), "refused": ledger.total(REFUSED),
            "unlinked": ledger.total(UNLINKED),
            **{name: counts[name] for name in (
                "replacers", "holding", "exchanging", "movers", "movers_in_the_cut",
                "movers_at_a_moment", "movers_stopped")},
            "resized": ledger.total(RESIZED), "cancelled": ledger.total(CANCELLED),
            "left_half_way": ledger.total(LEFT_HALF_WAY), "too_small": ledger.total(TOO_SMALL),
            "moves_taken_over": ledger.total(TAKEN_OVER),
            "longest_wait_ms": waits.longest_ms(),
            "longest_wait_when_free_ms": waits.longest_ms(free=True),
            "longest_for_replacer_ms": waits.longest_ms(replacers=True),
            "longest_for_replacer_when_free_ms": waits.longest_ms(free=True, replacers=True),
            "longest_wait_in_turn_ms": waits.longest_in_turn_ns / 1e6,
            "longest_operation_after_death_ms": waits.longest_operation_ns / 1e6,
            "longest_while_stopped_ms": waits.longest_while_stopped_ns / 1e6,
            "longest_while_replaced_ms": waits.longest_while_replaced_ns / 1e6,
            "longest_without_death_ms": waits.longest_without_death_ns / 1e6,
            "longest_while_moved_ms": waits.longest_while_moved_ns / 1e6,
            "longest_for_mover_ms": waits.longest_for_mover_ms(),
            "longest_for_mover_when_free_ms": waits.longest_for_mover_ms(free=True),
            "longest_waits": waits.describe(),
            "takeovers_measured": waits.takeovers,
            "median_wait_ms": waits.after_death_ms(0.5, self.kills()),
            "median_wait_when_free_ms": waits.after_death_ms(0.5, self.kills(), free=True),
            "p99_wait_ms": waits.after_death_ms(0.99, self.kills()),
            "median_takeover_ms": waits.after_takeover_ms(0.5),
            "p99_takeover_ms": waits.after_takeover_ms(0.99),
            "machine_delay_p99_ms": chaos.heartbeat.share_below_ms(0.99),
            "machine_delay_longest_ms": chaos.heartbeat.longest_ms(),
            "limit_ms": LIMIT_MS[ENGINE], "median_limit_ms": MEDIAN_LIMIT_MS[ENGINE],
            "replacer_limit_ms": REPLACER_LIMIT_MS[ENGINE],
        }
        self._judge_waits()

    def kills(self) -> int:
        """Count the deaths so far."""
        return self._chaos.counts["kills"] + self._chaos.ledger.total(KILLS)

    def _judge_waits(self) -> None:
        for field, limit in (("longest_wait_when_free_ms", "limit_ms"),
                             ("median_wait_when_free_ms", "median_limit_ms"),
                             ("longest_for_replacer_when_free_ms", "replacer_limit_ms")):
            if self.fields[field] > self.fields[limit]:
                self._chaos.fail("slow", f"{field} is {self.fields[field]:.1f}, more than "
                                 f"{self.fields[limit]:.0f}")

    def leaked(self, entries: list[str]) -> None:
        """Take note of what is left in /dev/shm."""
        if entries:
            self._chaos.fail("leaked", f"in /dev/shm: {', '.join(entries[:8])}")
        problems = self._chaos.problems
        for kind in _KINDS:
            self.fields[kind] = sum(1 for found, _ in problems if found == kind)
        self.fields["problems"] = [f"{kind}: {text}" for kind, text in problems]

    @property
    def exit_code(self) -> int:
        """0: nothing was wrong."""
        return 1 if self._chaos.problems else 0

    def say_progress(self, last: bool = False) -> None:
        """Print a line about how far it is; on a terminal, the `last` one is wiped out."""
        seconds = time.monotonic() - self._began
        line = (f"{seconds:6.0f} s  {self.kills():,} kills  {self._chaos.ledger.total(WRITES):,} "
                f"writes  longest wait {self._chaos.waits.longest_ms():.1f} ms")
        if sys.stderr.isatty():
            print(f"\r{line}", end="\r\033[K" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def as_json(self) -> str:
        """Return every field."""
        return json.dumps(self.fields)

    def as_text(self) -> str:
        """Return a table."""
        f = self.fields
        lines = [f"{f['engine']} engine, seed {f['seed']}, {f['size']} in {f['shards']} shard(s), "
                 f"{f['fill']:,} entries, {f['workers']} workers"
                 + (", interrupted" if f["interrupted"] else "")]
        lines += [f"{words:<28}{f[field]:>14,}" for field, words in _SHOWN]
        lines.append("waits of survivors for a dead holder (ms)")
        lines += [f"  {words:<36}{f[field]:>8.1f}" for field, words in (
            ("longest_wait_ms", "longest"),
            ("longest_wait_when_free_ms", "  less what the scheduler made of it"),
            ("median_wait_ms", "median of all deaths"),
            ("median_wait_when_free_ms", "  less what the scheduler made of it"),
            ("p99_wait_ms", "99 of 100 deaths"),
            ("median_takeover_ms", f"median of {f['takeovers_measured']:,} locks taken over"),
            ("p99_takeover_ms", "99 of 100 of these"),
            ("longest_for_replacer_ms", "longest for a dead replacer"),
            ("longest_for_replacer_when_free_ms", "  less what the scheduler made of it"),
            ("longest_for_mover_ms", "longest for a dead mover"),
            ("longest_for_mover_when_free_ms", "  less what the scheduler made of it"),
            ("longest_wait_in_turn_ms", "longest, several holders died in turn"),
            ("longest_operation_after_death_ms", "any operation after a death"),
        )]
        lines += [f"  {text}" for text in f["longest_waits"]]
        lines.append("for comparison (ms)")
        lines += [f"  {words:<36}{f[field]:>8.1f}" for field, words in (
            ("longest_without_death_ms", "longest wait, nobody dying"),
            ("longest_while_moved_ms", "the same, while the map was moved"),
            ("longest_while_stopped_ms", "longest while a worker was stopped"),
            ("longest_while_replaced_ms", "longest while the map was replaced"),
            ("machine_delay_p99_ms", "1 ms sleep late by, 99 of 100"),
            ("machine_delay_longest_ms", "1 ms sleep late by, longest"),
        )]
        lines += [f"{kind:<28}{f[kind]:>14,}" for kind in _KINDS]
        lines += map(printable_lines, f["problems"])  # file names of others, for one
        return "\n".join(lines)
