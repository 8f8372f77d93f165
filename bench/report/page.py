"""One HTML file with everything of a run: it needs no script and nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from ..core.results import OURS, problems
from ..core.targets import MISS, PASS
from . import plots
from .hit_ratio_table import overview
from .tables import WRONG, Table, table_of, targets_table
from .text import READ, families, not_run

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --back: #ffffff; --soft: #5d6570;
  --line: #dfe3e8; --band: #f5f7f9; --link: #0b5cad; --good: #00704d; --bad: #b3400a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --back: #15181c; --soft: #9aa4b0;
  --line: #333a43; --band: #1d2228; --link: #7db8f2; --good: #4fd1a5; --bad: #ff9b6b; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; } h2 { margin: 3rem 0 .5rem; font-size: 1.5rem;
  border-bottom: 2px solid var(--line); } h3 { margin: 2.2rem 0 .2rem; font-size: 1.1rem; }
h3 code { color: var(--soft); font-weight: normal; font-size: .9em; }
a { color: var(--link); } .soft, figcaption { color: var(--soft); font-size: .9rem; }
nav ul { columns: 17rem; column-gap: 2.5rem; padding-left: 1.1rem;
  margin: .2rem 0 1rem; font-size: .95rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .5rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid var(--line); font-weight: 600; }
td { border-bottom: 1px solid var(--line); }
.left, th:last-child, td:last-child { text-align: left; } td.text { white-space: normal; }
tr.ours { background: var(--band); font-weight: 600; }
tr.wrong td:first-child { color: var(--bad); text-decoration: line-through; }
.pass { color: var(--good); } .miss { color: var(--bad); font-weight: 700; }
figure { margin: 1rem 0; background: #fff; border-radius: 8px; padding: .7rem; }
figure svg { display: block; width: 100%; height: auto; max-width: 56rem; margin: auto; }
details { margin: .5rem 0 1.5rem; } summary { cursor: pointer; color: var(--soft); }
pre { font-size: .78rem; overflow-x: auto; background: var(--band); padding: .7rem; }
@media print { body { max-width: none; font-size: 11px; } nav, details { display: none; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } .wide { overflow: visible; }
  :root { color-scheme: light; --text: #000; --back: #fff; --soft: #444; --line: #bbb;
    --band: #eee; --link: #000; --good: #060; --bad: #a00; } }
"""


def page(results: dict[str, Any]) -> str:
    """Write the page."""
    drawn, looks = {}, {}
    if not plots.missing():
        drawn, looks = plots.pictures(results), plots.styles(results)
    sections = families(results)
    parts = [_head(results), _contents(results, sections), _about(results)]
    if plots.missing():
        parts.append(f"<p class=miss>No plots: {escape(plots.missing())}</p>")
    if results["targets"]:
        parts.append("<h2 id=targets>Targets</h2>\n<p>What was promised, and what came of it.</p>"
                     + _table(targets_table(results)))
    if table := overview(results):
        parts.append("<h2 id=hits>Hit ratios</h2>" + _table(table)
                     + f"<p class=soft>{escape(table.notes[0])}</p>")
    for family, names in sections.items():
        parts.append(f"<h2 id='{_anchor(family)}'>{escape(family)}</h2>")
        for name in names:
            pictures = [plots.inline_svg(one, looks) for one in drawn.get(name, [])]
            parts.append(_scenario(results, name, pictures))
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width, initial-scale=1'>\n"
        f"<title>shmmap: benchmarks</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _anchor(text: str) -> str:
    """Make an id that no scenario's id is equal to.

    >>> _anchor("Many processes")
    'family-many-processes'
    """
    return "family-" + "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _head(results: dict[str, Any]) -> str:
    machine, engine = results["machine"], results["engine"]
    wrong = "".join(f"<li>{escape(problem)}" for problem in problems(results))
    left = ", ".join(not_run(results))
    return (
        "<h1>shmmap: benchmarks</h1>\n"
        f"<p class=soft>{escape(results['started'])}, shmmap {escape(engine['version'])} "
        f"({escape(engine['engine'])} engine), {machine['cores']} cores of "
        f"{escape(machine['cpu'])}, {escape(machine['python'])}</p>\n"
        f"<p>{escape(READ)} Lines and bars in the plots are medians too; bands and dark lines "
        "reach from the least repetition to the most.</p>"
        + (f"<p class=miss>{WRONG}:</p><ul class=miss>{wrong}</ul>" if wrong else "")
        + (f"<p class=miss>Interrupted. Not measured: {escape(left)}</p>" if left else "")
    )


def _contents(results: dict[str, Any], sections: dict[str, list[str]]) -> str:
    items = []
    for family, names in sections.items():
        inner = "".join(
            f"<li><a href='#{escape(name)}'>{escape(results['scenarios'][name]['title'])}</a>"
            for name in names
        )
        items.append(f"<p><a href='#{_anchor(family)}'><b>{escape(family)}</b></a></p>"
                     f"<ul>{inner}</ul>")
    targets = " | <a href='#targets'>Targets</a>" if results["targets"] else ""
    return (f"<nav>\n<p><a href='#about'>Machine and versions</a>{targets}</p>\n"
            + "\n".join(items) + "\n</nav>")


def _about(results: dict[str, Any]) -> str:
    """Tell machine, engine and peers, each with its version and setting."""
    machine, engine = results["machine"], results["engine"]
    fits = "" if engine["sources_as_in_checkout"] else ", but the sources differ from it"
    facts = {
        "command": " ".join(results["command"]),
        "engine": f"{engine['engine']}, {engine['file']}, shmmap {engine['version']}",
        "revision": engine["revision"] + fits,
        "processor": f"{machine['cpu']}, {machine['cores']} cores",
        "memory": f"{machine['memory_bytes'] / 1e9:.1f} GB, "
                  f"/dev/shm {machine['shm_bytes'] / 1e9:.1f} GB",
        "kernel": machine["kernel"],
        "python": machine["python"],
        "load average": f"{machine['load_average'][0]} at the start, "
                        f"{results['load_average_at_end'][0]} at the end",
        "from, to": f"{results['started']}, {results['ended']}",
        "seed": str(results["seed"]),
    }
    peers = [[name, about["version"], about["setting"]] for name, about in results["peers"].items()]
    peers += [[name, "skipped", f"to have it: {how}"]
              for name, how in results["skipped_peers"].items()]
    return ("<h2 id=about>Machine and versions</h2>\n"
            + _table(Table(["", ""], [[name, text] for name, text in facts.items()]))
            + _table(Table(["peer", "version", "setting"], peers, 2)))


def _scenario(results: dict[str, Any], name: str, pictures: list[str]) -> str:
    """Return a scenario's question, plots, table and raw numbers."""
    table = table_of(results, name)
    raw = [row for row in results["rows"] if row["scenario"] == name]
    notes = "<br>\n".join(escape(note) for note in table.notes)
    lines = ",\n".join(json.dumps(row) for row in raw)
    return (
        f"<h3 id='{escape(name)}'>{escape(results['scenarios'][name]['title'])} "
        f"<code>{escape(name)}</code></h3>\n"
        + "".join(f"<figure>{picture}</figure>\n" for picture in pictures)
        + _table(table) + f"<p class=soft>{notes}</p>\n"
        f"<details><summary>raw numbers: {len(raw)} rows, every repetition</summary>"
        f"<pre>{escape(lines)}</pre></details>"
    )


def _table(table: Table) -> str:
    """Write a table; our map's rows stand out."""
    def cell(kind: str, n: int, text: str) -> str:
        look = ["left"] * (n < table.left) + ["text"] * (len(text) > 60)
        look += {PASS: ["pass"], MISS: ["miss"], WRONG: ["miss"]}.get(text, [])
        return f"<{kind}{' class=' + repr(' '.join(look)) if look else ''}>{escape(text)}</{kind}>"

    def line(kind: str, row: list[str], look: str = "") -> str:
        return f"<tr{look}>{''.join(cell(kind, n, text) for n, text in enumerate(row))}</tr>\n"

    def look(row: list[str]) -> str:
        return " class=wrong" if row[-1] == WRONG else " class=ours" if row[0] == OURS else ""

    body = "".join(line("td", row, look(row)) for row in table.rows)
    return f"<div class=wide><table>\n{line('th', table.heads)}{body}</table></div>\n"
