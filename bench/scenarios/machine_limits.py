"""What does a rate limit of several machines cost, exact and in shares?

`machine-limits`: two machines of two workers each hit the keys of a thousand clients in turn, over
one redis on a unix socket; how many requests reach it is what the server counts. Then all of them
hit one key, each worker twice as often as the limit allows. Beside `RateLimiter`, exact and in
shares: the map alone, each machine its own; the shortest script that counts and expires, by
redis-py; and the library limits. All count in fixed windows of a day.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..core.results import Row
from ..core.scenario import Plot, Scenario, Setup
from ..core.timing import percentile
from ..load.machine_limits import EXACT, KINDS, LIMITS, SHARES, Hits, LimitsJob
from ..load.rate_limits import EACH, LIMIT
from ..load.worker_pool import WorkerPool
from .tiered import Place, Tiers

MACHINES, A_MACHINE = 2, 2
COMMANDS = ("evalsha", "eval")


class LimitsLane:
    """One kind, and workers of two machines."""

    def __init__(self, scenario: str, kind: str, setup: Setup) -> None:
        self.scenario, self.kind, self.problem = scenario, kind, ""
        self.seconds = setup.scale.experiment_seconds
        self.samples: dict[str, list[float]] = {
            "per_s": [], "p50_ns": [], "p99_ns": [], "asked_per_s": [], "let_through": [],
        }
        self.place = Place(MACHINES)
        try:
            job = LimitsJob(kind, self.place.address, self.place.machines)
            self.pool = WorkerPool(job, MACHINES * A_MACHINE)
            self.place.stack.callback(self.pool.close)
        except BaseException:
            self.close()
            raise

    def repeat(self, number: int) -> None:
        """Hit many keys for a while, then one key with a limit."""
        before = self.place.requests(*COMMANDS)
        many: list[Hits] = self.pool.run(self.seconds)
        asked = self.place.requests(*COMMANDS) - before
        self.note(many, asked, self.pool.run(0.0))

    def note(self, many: list[Hits], asked: int, one: list[Hits]) -> None:
        """Note the figures, and what is wrong in them."""
        hits = sum(each.hits for each in many)
        window_s = (max(each.ended for each in many) - min(each.begun for each in many)) / 1e9
        took = [ns for each in many for ns in each.took_ns]
        passed = sum(each.passed for each in one)
        self.samples["per_s"].append(round(hits / window_s))
        self.samples["p50_ns"].append(percentile(took, 0.5))
        self.samples["p99_ns"].append(percentile(took, 0.99))
        self.samples["asked_per_s"].append(round(asked / window_s))
        self.samples["let_through"].append(passed)
        if refused := hits - sum(each.passed for each in many):
            self.problem = f"{refused} of {hits} hits were refused"
        if (self.kind in EXACT and passed != LIMIT) or (self.kind == SHARES and passed > LIMIT):
            self.problem = f"{passed} hits were let through, where the limit is {LIMIT}"

    def row(self) -> Row:
        """Return what was found."""
        facts = {"machines": MACHINES, "workers": MACHINES * A_MACHINE, "limit": LIMIT,
                 "hits_of_one_key": EACH * MACHINES * A_MACHINE}
        return Row.of(self.scenario, self.kind, self.samples, self.problem, {}, facts)

    def close(self) -> None:
        """End the workers, the server and the maps."""
        self.place.close()


SCENARIOS: tuple[Scenario, ...] = (
    Tiers("machine-limits", f"{MACHINES} machines of {A_MACHINE} workers hit, one redis",
          LimitsLane, tuple(kind for kind in KINDS if kind != LIMITS or find_spec("limits")),
          (Plot("", "Two machines, one redis: hits a second", "", "per_s", "y"),)),
)
