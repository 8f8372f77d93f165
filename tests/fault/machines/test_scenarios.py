"""Two machines while wires are cut, processes stopped and servers replaced: short runs.

All scenarios, for longer, and what they measure: `python -m bench partitions --full`.
"""

from __future__ import annotations

import pytest

from ...machines.scenarios import SCENARIOS, play
from ...machines.verdicts import verdict

SEED = 367  # its medley begins with b cut off for longer than the bound
SHORT = {  # seconds before, in and after the fault
    "medley": (0.5, 3.2, 1.4),
    "listener-reset": (0.3, 2.0, 0.4),
    "store-emptied": (0.5, 0.4, 1.4),
    "split": (0.4, 1.4, 2.6),
}


@pytest.mark.parametrize("scenario", SHORT)
def test_what_was_promised_holds(namespaces, scenario):
    chosen = SCENARIOS[scenario]
    if chosen.options.get("with_sentinels"):
        chosen = chosen._replace(options={**chosen.options, "sentinels_period_ms": 100})
    history, _ = play(chosen, SEED, *SHORT[scenario])
    found = verdict(chosen, history)
    assert found.wrong == []
    assert all(len(one.reads) > 100 for one in history.answers.values())
    assert all(one.reads[-1].began > history.healed for one in history.answers.values())
    assert bool(found.lost) == chosen.may_lose
