"""The table of `python -m bench partitions`, for docs/guide/tiered.md."""

from __future__ import annotations

from typing import Any

from .tables import measured_on

_KINDS = ("bounded", "session", "linearizable")


def table(results: dict[str, Any]) -> str:
    """Return the table, with how it was measured."""
    rows = results["rows"]
    answers = sum(row["answers"] for row in rows)
    lines = [
        f"One run ({measured_on(results)}). Two machines, a and b, each a network namespace; each "
        "reads, and writes keys of its own. A reader asks "
        f"{results['reads_per_s']:.0f} times a second, a writer {results['writes_per_s']:.0f} "
        f"times; the bound is {results['bound_s']:g} s. Then something happens, and is mended. All "
        f"{answers:,} answers were held to what their consistency promises: "
        f"{sum(row['wrong'] for row in rows)} were wrong. Not counted are those of a in the rows "
        "*split*, from the cut until all was whole again.",
        "",
        "*Refused*: the share of reads, or writes, that raised. *Oldest*: how long ago what "
        "replaced the oldest answer had been acknowledged. *Whole again*: seconds after the "
        "mending until nobody was refused any more, or given what was too old. *Lost*: writes "
        "that were acknowledged, and are not there in the end. *all*: no read and no write was "
        "refused; the slowest reader, and the oldest answer with a bound.",
        "",
        "| what happens, for how long | reads | a: answers/s | refused | oldest | b: answers/s | "
        "refused | oldest | whole again | lost |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        whole = not any(one["refused"] for one in (*row["reads"], *row["writes"])) and not any(
            one["unknown"] for one in row["writes"])
        for kind in ("all",) if whole else (*_KINDS, "writes"):
            lines.append("| " + " | ".join(_cells(row, kind)) + " |")
    return "\n".join([*lines, "", "`python -m bench partitions --full` measures it (root; 20 "
                      "minutes), and judges every answer."])


def _cells(row: dict[str, Any], kind: str) -> list[str]:
    """Write a line of the table."""
    is_first = kind in ("all", _KINDS[0])
    title = f"**{row['scenario']}**: {row['title']}; {row['during_s']:.0f} s"
    if row["failover_s"] is not None:
        title += f", another master after {row['failover_s']:.1f} s"
    whole = "never" if row["converged_s"] is None else f"{row['converged_s']:.1f} s"
    lost = f"{row['lost']:,} of {row['acknowledged']:,}"
    cells = [title if is_first else "", kind]
    for machine in "ab":
        if kind == "all":
            ones = [one for one in row["reads"] if one["machine"] == machine]
            oldest_s = next(one["oldest_s"] for one in ones if one["consistency"] == _KINDS[0])
            cells += [f"{min(one['per_s'] for one in ones):.0f}", "-", _age(oldest_s)]
        elif kind == "writes":
            one = next(one for one in row["writes"] if one["machine"] == machine)
            cells += [f"{one['per_s']:.0f}", _share(one["refused"] + one["unknown"]), ""]
        else:
            one = next(one for one in row["reads"]
                       if (one["machine"], one["consistency"]) == (machine, kind))
            cells += [f"{one['per_s']:.0f}", _share(one["refused"]), _age(one["oldest_s"])]
    return [*cells, whole if is_first else "", lost if kind in ("all", "writes") else ""]


def _share(share: float) -> str:
    return f"{share:.1%}".replace("%", " %") if share else "-"


def _age(age_s: float) -> str:
    return "-" if age_s < 0.0005 else f"{age_s * 1e3:.0f} ms" if age_s < 10 else f"{age_s:.0f} s"
