"""Figures as short texts: rates, bars, histories."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#@"


def rate(per_s: float) -> str:
    """Write a rate in four or five characters.

    >>> rate(0), rate(3.26), rate(980), rate(12_345), rate(2_500_000)
    ('0', '3.3', '980', '12.3k', '2.5M')
    """
    if per_s < 9.95:
        return f"{per_s:.1f}" if per_s else "0"
    for unit in ("", "k"):
        if per_s < 999.5:
            return f"{per_s:.0f}" if not unit else f"{per_s:.1f}{unit}"
        per_s /= 1000
    return f"{per_s:.1f}M"


def blocks(shares: Sequence[float | None], signs: str = BLOCKS) -> str:
    """Write a share (0 to 1) as a column each; None: nothing.

    >>> blocks([0, 0.5, 1, None])
    ' ▄█ '
    """
    return "".join(
        " " if share is None else signs[max(1 if share > 0 else 0, round(share * 8))]
        for share in (one if one is None else min(max(one, 0.0), 1.0) for one in shares)
    )


def bar(share: float, width: int, signs: str = BLOCKS) -> str:
    """Write a share as a bar.

    >>> bar(0.5, 4)
    '██··'
    """
    full = round(min(max(share, 0.0), 1.0) * width)
    return signs[-1] * full + "·" * (width - full) if signs is BLOCKS else (
        signs[-1] * full + "." * (width - full))


def balance(entries: Sequence[int], width: int, signs: str = BLOCKS) -> str:
    """Write how full shards are beside the fullest, in `width` columns at most: of several shards
    in a column the fullest.

    >>> balance([4, 2, 0, 4], 4), balance([1, 1, 1, 8], 2)
    ('█▄ █', '▁█')
    """
    if not entries or not max(entries):
        return ""
    columns = min(width, len(entries))
    most = [max(entries[len(entries) * at // columns:len(entries) * (at + 1) // columns])
            for at in range(columns)]
    return blocks([one / max(entries) for one in most], signs)


def percent(share: float | None) -> str:
    """Write a share in per cent; "-": there is none."""
    return "-" if share is None else f"{share:.1%}"
