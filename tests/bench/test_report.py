"""Tables, plots, page and comparison, from results that are made up."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import shmmap
from bench.core import results, targets
from bench.core.results import Row
from bench.core.scenario import Plot
from bench.report import (
    compare,
    limits_table,
    page,
    partitions_table,
    plots,
    rates_table,
    readme,
    tables,
    tiered_table,
    web_tables,
)
from bench.report.text import header, report

pytestmark = pytest.mark.skipif(shmmap.ENGINE == "pure", reason="the same with either engine")

PEERS = ["(empty loop)", "dict", "shmmap", *(f"peer {n}" for n in range(10))]
MACHINE = {
    "cpu": "a processor & more", "cores": 2, "memory_bytes": 8e9, "shm_bytes": 4e9,
    "kernel": "Linux 6", "python": "CPython 3.11 (GCC 12)", "load_average": [0.1, 0.1, 0.1],
}
ENGINE = {
    "version": "0.1.0", "engine": "compiled", "file": "shmmap/x.so", "revision": "abc",
    "sources_as_in_checkout": False,
}


def made(rows: list[Row], *wanted: Plot, **changes: Any) -> dict[str, Any]:
    """Return results with these rows, as they come out of a JSON; each scenario has the plots."""
    names = tables.union(row.scenario for row in rows)
    figures, drawn = results.metrics(rows), [plot._asdict() for plot in wanted]
    found = {
        "format": 2, "command": ["python", "-m", "bench"], "started": "then", "ended": "later",
        "engine": ENGINE, "machine": MACHINE, "scale": {"keys": 10}, "processes": [1], "seed": 20,
        "scenarios": {
            name: {"title": f"<{name}>", "family": "Made up", "plots": drawn} for name in names
        },
        "peers": {peer: {"version": "1", "setting": "plain"} for peer in PEERS},
        "skipped_peers": {"absent one": "pip install it"}, "took_s": {}, "failures": {},
        "interrupted": False, "rows": [row._asdict() for row in rows], "metrics": figures,
        "targets": targets.judge(figures, "compiled", names), "load_average_at_end": [0.2, 0, 0],
    }
    return json.loads(json.dumps({**found, **changes}))


def lines(figure: str = "per_s", places: tuple[int, ...] = (1, 2, 64)) -> list[Row]:
    """Return rows of 13 peers over a number of processes, the later the better."""
    return [
        Row.of("load", peer, {figure: [100.0 * n * x, 90.0 * n * x, 130.0 * n * x]},
               point={"processes": x})
        for x in places
        for n, peer in enumerate(PEERS, 1)
    ]


def test_a_table_is_sorted_by_point_and_figure_and_tells_ratios():
    rows = [
        Row.of("a", "slow", {"ns": [300.0, 330.0, 300.0], "p99_ns": [400.0]},
               facts={"entries": 7, "batches": 3, "told": "not a number"}),
        Row.of("a", "liar", {"ns": [1.0, 1.0, 1.0]}, "it lied"),
        Row.of("a", "shmmap", {"ns": [100.0, 110.0, 150.0]},
               facts={"entries": 8, "batches": 3}),
        Row.of("a", "none", {}, "it broke"),
    ]
    table = tables.table_of(made(rows), "a")
    assert table.heads == ["", "ns", "span", "shmmap/peer", "p99_ns", "entries", ""]
    assert table.rows == [
        ["shmmap", "110", "45%", "", "-", "8", ""],
        ["slow", "300", "10%", "0.333", "400", "7", ""],
        ["liar", "1.00", "0%", "-", "-", "-", "WRONG"],
        ["none", "-", "-", "-", "-", "-", "WRONG"],
    ]
    assert table.notes[-2:] == ("in every row of a: batches 3", "slow: told: not a number")
    assert any("below 1 shmmap is better" in note for note in table.notes)
    assert len({len(line) for line in table.text().splitlines()[1:3]}) == 1


def test_points_keep_their_order_and_higher_can_be_better():
    table = tables.table_of(made(lines()), "load")
    assert [row[1] for row in table.rows] == ["1"] * 13 + ["2"] * 13 + ["64"] * 13
    assert table.rows[0][0] == PEERS[-1] and table.rows[12][0] == PEERS[0]
    assert any("above 1 shmmap is better" in note for note in table.notes)


def test_verdicts_stand_in_the_row_that_they_judge():
    rows = [
        Row.of("filled", "shmmap", {"refused": [refused]}, point={"entries": entries})
        for entries, refused in ((1_000, 0), (100_000, 2))
    ]
    found = made(rows)
    assert [row[-1] for row in tables.table_of(found, "filled").rows] == ["PASS", "MISS"]
    assert "MISS" in tables.targets_table(found).text()


def test_the_text_tells_all():
    wrong = Row.of("load", "liar", {}, "lost 3", {"processes": 1})
    found = made([*lines(), wrong], failures={"other": "OSError: full"}, interrupted=True)
    found["scenarios"] |= {n: {"title": n, "family": "x", "plots": []} for n in ("other", "third")}
    text = report(found)
    for peer in PEERS:
        assert peer in text
    assert "load, liar@processes=1: lost 3" in text and "other failed: OSError: full" in text
    assert text.endswith("Interrupted. Not measured: third")
    head = header(found)
    assert "absent one (to have it: pip install it)" in head and "sources differ" in head


def test_nothing_measured_is_no_error():
    found = made([], failures={"a": "OSError: full"})
    assert "a failed" in report(found) and "a failed" in page.page(found)
    assert plots.pictures(found) == {}


def test_plots_are_written_as_png_and_svg(tmp_path):
    found = made(
        [*lines(), Row.of("single", "shmmap", {"ms": [3.0]}, point={"entries": 5})],
        Plot("", "Throughput", "processes", "per_s", "xy"), Plot("bars", "Once", "", "ms"),
    )
    written = plots.write(found, tmp_path / "new")
    names = sorted(path.name for path in written)
    assert names == ["load.png", "load.svg", "single-bars.png", "single-bars.svg"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    svg = (tmp_path / "new/load.svg").read_text()
    for peer in PEERS:
        assert f">{peer}<" in svg  # in the legend, whatever their number
    again = plots.write(found, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


@pytest.mark.parametrize("places", [(1, 2, 64), (4,)])
def test_axes_start_at_zero_or_say_that_they_are_logarithmic(places):
    found = made(lines(places=places), *(
        Plot(log or "none", "Throughput", "processes", "per_s", log) for log in ("", "x", "y", "xy")
    ))
    for picture in plots.pictures(found)["load"]:
        figure = plots.figure_of(picture, plots.styles(found))
        (axes,) = figure.axes
        is_line = len(places) > 1
        value = axes.yaxis if is_line else axes.xaxis
        texts = " ".join(text.get_text() for text in axes.texts) + axes.get_xlabel()
        log = picture.plot.log if is_line else picture.plot.log.replace("x", "")
        assert texts.count("log scale") == len(log)
        assert (value.get_scale() == "log") == ("y" in log)
        for name, limits in (("x", axes.get_xlim()), ("y", axes.get_ylim())):
            if name not in log and (is_line or (name == "x" and not log)):
                assert limits[0] == 0


def test_lines_are_medians_with_a_band_from_least_to_most():
    found = made(lines(), Plot("", "Throughput", "processes", "per_s"))
    (picture,) = plots.pictures(found)["load"]
    (axes,) = plots.figure_of(picture, plots.styles(found)).axes
    (line,) = (line for line in axes.lines if line.get_label() == "dict")
    assert list(line.get_xdata()) == [1, 2, 64]
    assert list(line.get_ydata()) == [200.0, 400.0, 12_800.0]
    assert len(axes.lines) == len(axes.collections) == len(PEERS)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == PEERS[::-1]  # as the lines end, from the top


def test_what_is_wrong_or_missing_is_not_drawn():
    rows = [
        Row.of("a", "shmmap", {"ns": [3.0]}), Row.of("a", "liar", {"ns": [1.0]}, "it lied"),
        Row.of("a", "other", {"ms": [1.0]}),
    ]
    found = made(rows, Plot("", "Times", "", "ns"), Plot("none", "Nothing", "", "bytes"))
    (picture,) = plots.pictures(found)["a"]
    assert [row.peer for row in picture.rows] == ["shmmap"]
    assert b"left out, as wrong: liar" in plots.render(picture, plots.styles(found), "svg")


def test_a_name_looks_the_same_everywhere_and_different_from_all_others():
    designs = [
        Row.of("b", name, {"ns": [1.0]}) for name in ("one lock", "locked reads", "shmmap", "dict")
    ]
    looks = plots.styles(made([*lines(), *designs]))
    assert len({look[:3] for name, look in looks.items() if name in PEERS}) == len(PEERS)
    assert len({looks[row.peer][:3] for row in designs}) == len(designs)
    assert all(looks[name].colour != looks["shmmap"].colour for name in looks if name != "shmmap")
    assert looks["dict"] == plots.styles(made(lines()))["dict"]


def test_the_page_is_one_file_that_needs_nothing_else():
    rows = [*lines(), Row.of("bad", "shmmap", {"ns": [1.0, 2.0]}, "gave '<script>'")]
    found = made(rows, Plot("", "A & B <c>", "processes", "per_s", "x"))
    text = page.page(found)
    assert not re.search(r"https?:|<script|<link|<img|src=|@import|<\?xml|<!DOCTYPE svg", text)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    targets_of_links = re.findall(r"href=['\"]([^'\"]*)", text)
    ids = re.findall(r"\bid=['\"]?([^'\" >]+)", text)
    assert targets_of_links and {link[:1] for link in targets_of_links} == {"#"}
    assert {link[1:] for link in targets_of_links} <= set(ids)
    assert text.count("<svg") == 1 and text.count("<details>") == 2
    assert "&lt;script&gt;" in text and "a processor &amp; more" in text
    assert "[130.0" not in text and "130.0]" in text  # the raw numbers, every repetition
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda name: None)
    assert "pip install '.[bench]'" in plots.missing()
    text = page.page(made(lines(), Plot("", "Throughput", "processes", "per_s")))
    assert "No plots: plots need matplotlib" in text and "<svg" not in text and "peer 9" in text


def test_the_readme_gets_its_table_and_its_picture():
    rows = [Row.of("get-hot", peer, {"ns": [114.4]}) for peer in ("dict", "shmmap")]
    loads = [row._replace(scenario="load-processes") for row in lines()]
    found = made([*rows, *loads], Plot("", "Throughput", "processes", "per_s"))
    text = readme.replaced(
        f"before\n{readme.START}\nold\n{readme.END}\nafter", readme.section(found)
    )
    assert text.startswith("before\n") and text.endswith("\nafter") and "old" not in text
    assert "| `get`, 64 keys over and over | 114 | 114 |" in text
    assert "![Throughput](bench/results/readme.svg)" in text
    assert {row.peer for row in readme.picture(found).rows} == {"dict", "shmmap"}
    with pytest.raises(SystemExit, match="lacks its marks"):
        readme.replaced("no marks", "")
    for path in (readme.README, readme.BENCH_README):
        assert path.read_text().count(readme.START) == path.read_text().count(readme.END) == 1


def between(path: Path, first: str, last: str) -> str:
    """Return what stands between the marks of a page, which must be there once."""
    text = path.read_text()
    assert text.count(first) == text.count(last) == 1
    return text.partition(first)[2].partition(last)[0].strip()


def kept(name: str) -> dict[str, Any]:
    """Return the results of a run that is kept."""
    found: dict[str, Any] = json.loads((readme.CHECKOUT / f"bench/results/{name}.json").read_text())
    return found


def web_rows(scenario: str, *peers: str) -> list[Row]:
    figures = {"per_s": [2_000.0], "p50_ns": [5.2e6], "p99_ns": [1.1e7], "cpu_us": [300.0],
               "bytes": [2.1e7]}
    return [Row.of(scenario, peer, figures, facts={"counted_percent": 64.9}) for peer in peers]


def test_the_tables_of_the_web_scenarios():
    liar = web_rows("web", "diskcache.Cache")[0]._replace(problem="Non-2xx or 3xx responses: 3")
    found = made([*web_rows("web", "shmmap", "redis", "gunicorn stash"), liar,
                  *web_rows("web-django", "dict", "diskcache.FanoutCache")])
    short, whole = web_tables.short(found), web_tables.whole(found)
    assert "| **shmmap** | 2,000 | 5.2 ms | 11.0 ms | 300 us | 21 MB |\n| redis, unix" in short
    assert "diskcache" not in short and "locmem" not in short and "counted" not in short
    assert "| gunicorn's stash | 2,000 | 5.2 ms | 11.0 ms | 300 us | 21 MB | 65 % |" in whole
    assert "| locmem, in each worker | 2,000" in whole and "DjangoCache" in whole
    assert "gevent" not in whole  # nothing of it was measured
    paths = [path for path, *_ in readme.sections(found)]
    assert paths == [readme.README, readme.BENCH_README]
    assert [path for path, *_ in readme.sections(made(web_rows("web-gevent", "dict")))] == [
        readme.BENCH_README
    ]


def test_the_tables_of_the_web_scenarios_are_those_of_the_run_that_is_kept():
    told = kept("web")
    assert {row["scenario"] for row in told["rows"]} >= {"web"} and not told["failures"]
    marks = readme.WEB_START, readme.WEB_END
    assert between(readme.README, *marks) == web_tables.short(told)
    assert between(readme.BENCH_README, *marks) == web_tables.whole(told)


def test_the_table_of_the_rates_scenarios():
    point = {"algorithm": "fixed"}
    facts = {"processes": 4, "limit": 1_000, "hits_of_one_key": 8_000}
    found = made([
        Row.of("rates", "shmmap", {"ns": [4_290.0], "p99_ns": [5_300.0]}, "", point),
        Row.of("rates", "limits, redis", {"ns": [1.0], "p99_ns": [1.0]}, "refused", point),
        Row.of("rates-processes", "shmmap", {"per_s": [2e5], "let_through": [1e3]}, "", point,
               facts),
        Row.of("rates-processes", "limits, memory", {"per_s": [3e5], "let_through": [4e3]}, "",
               point, facts),
    ])
    text = rates_table.table(found)
    assert "| **`RateLimiter`** | fixed | 4.3 us | 5.3 us | 200,000 | 1,000 |" in text
    assert "| limits, `memory://` | fixed | - | - | 300,000 | 4,000 |" in text
    assert "redis" not in text and "one key 8,000 times, where the limit is 1,000" in text
    ((path, _, first, last),) = readme.sections(found)
    assert path == readme.RATES_PAGE
    assert between(path, first, last) == rates_table.table(kept("rates"))


def test_the_table_of_limits_of_several_machines():
    found = kept("machine-limits")
    text = limits_table.table(found)
    assert '| **`machines="shares"`** | ' in text and "where the limit is 1,000" in text
    ((path, _, first, last),) = readme.sections(found)
    assert path == readme.RATES_PAGE
    assert between(path, first, last) == text


def test_the_table_of_several_machines():
    found = kept("tiered")
    text = tiered_table.table(found)
    assert "| **`Tiered`** | " in text and "100,000 copies change at once" in text
    ((path, _, first, last),) = readme.sections(found)
    assert path == readme.TIERED_PAGE
    assert between(path, first, last) == text


def test_the_table_of_partitions():
    found = kept("partitions")
    text = partitions_table.table(found)
    assert "| **machine**: b is cut off" in text and " were wrong" in text
    assert all(row["wrong"] == 0 and (row["may_lose"] or not row["lost"]) for row in found["rows"])
    ((path, _, first, last),) = readme.sections(found)
    assert path == readme.TIERED_PAGE
    assert between(path, first, last) == text


def test_the_losses_are_listed():
    rows = [
        Row.of("get", "shmmap", {"ns": [10.0]}), Row.of("get", "dict", {"ns": [4.0]}),
        Row.of("get", "even", {"ns": [9.9]}), Row.of("get", "liar", {"ns": [1.0]}, "it lied"),
        Row.of("get", "(empty loop)", {"ns": [1.0]}), Row.of("get", "slow", {"ns": [99.0]}),
        *(Row.of("load", "shmmap", {"per_s": [100.0]}, point={"processes": n}) for n in (1, 2)),
        *(Row.of("load", "dict", {"per_s": [90.0 * n]}, point={"processes": n}) for n in (1, 2)),
        Row.of("won", "shmmap", {"ns": [1.0]}), Row.of("won", "dict", {"ns": [4.0]}),
    ]
    lines = readme.losses(made(rows)).splitlines()
    assert lines[2:] == ["| <get> | dict (2.5) |", "| <load> | dict (1.8) |"]


def noisy(middle: float, spread: float, seed: int, repetitions: int = 15) -> list[float]:
    chance = random.Random(seed)
    return [middle * chance.gauss(1, spread) for _ in range(repetitions)]


def one(samples: list[float], figure: str = "ns", problem: str = "") -> dict[str, Any]:
    return made([Row.of("a", "shmmap", {figure: samples}, problem)])


@pytest.mark.parametrize(("figure", "verdicts"), [
    ("ns", ["slower", "faster"]), ("per_s", ["faster", "slower"]),
])
def test_compare_finds_a_planted_tenth(figure, verdicts):
    old, new = one(noisy(100, 0.02, 1), figure), one(noisy(110, 0.02, 2), figure)
    for pair, wanted in zip(((old, new), (new, old)), verdicts, strict=True):
        (change,) = compare.changes(*pair)
        assert change.verdict == wanted
        assert change.low < change.ratio < change.high
    (change,) = compare.changes(old, new)
    assert change.low < 1.1 < change.high and compare.changes(old, new) == [change]


def test_compare_does_not_find_noise():
    rows = [
        [Row.of("a", f"store {n}", {"ns": noisy(100, 0.05, seed + n)}) for n in range(200)]
        for seed in (1_000, 2_000)
    ]
    found = compare.changes(made(rows[0]), made(rows[1]))
    assert len(found) == 200
    # An interval of 99 % lets one of 200 be slower by chance, and one faster.
    assert sum(change.verdict in ("slower", "faster") for change in found) <= 4


def test_compare_is_unsure_of_few_repetitions():
    assert compare.interval([1.0, 1.1, 1.2, 1.1], [2.0, 2.1, 2.2, 2.3], 0)[1] == float("inf")
    (change,) = compare.changes(one([1.0, 1.1, 1.2]), one([2.0, 2.1, 2.2]))
    assert change.verdict == "unsure"
    (same,) = compare.changes(one([1.5]), one([1.5]))
    assert same.verdict == "same"
    (zero,) = compare.changes(one([0.0], "refused"), one([2.0], "refused"))
    assert zero.verdict == "unsure" and "unsure" in compare.text(one([1.0]), one([2.0]), [zero])


def test_compare_leaves_out_what_cannot_be_compared():
    old = made([Row.of("a", "shmmap", {"ns": [1.0], "count": [1.0]}),
                Row.of("a", "x", {"ns": [1.0]})])
    new = made([Row.of("a", "shmmap", {"ns": [1.0], "count": [2.0]}),
                Row.of("a", "x", {"ns": [9.0]}, "wrong"), Row.of("b", "x", {"ns": [1.0]})])
    assert [(c.label, c.figure) for c in compare.changes(old, new)] == [("shmmap", "ns")]
    assert compare.broken(old, new) == ["a, x: wrong"]
    assert "no figure in common" in compare.text(old, made([]), [])


def test_compare_says_what_else_differs():
    old = one([1.0])
    new = copy.deepcopy(old)
    assert compare.differences(old, new) == []
    new["machine"]["cpu"] = "another"
    new["engine"]["engine"] = "pure"
    new["scale"]["keys"] = 20
    new["peers"]["dict"]["version"] = "2"
    del new["peers"]["peer 3"]
    found = "\n".join(compare.differences(old, new))
    for part in ("cpu: a processor & more -> another", "engine: compiled -> pure", "keys: 10 -> 20",
                 "dict: 1, plain -> 2, plain", "peer 3: only in the old run"):
        assert part in found
    assert found in compare.text(old, new, []).replace("\n  ", "\n")


def test_compare_ends_with_a_verdict(tmp_path, capsys):
    def path(name: str, results: dict[str, Any]) -> str:
        (tmp_path / name).write_text(json.dumps(results))
        return str(tmp_path / name)

    fast = path("fast", one(noisy(100, 0.01, 1)))
    slow = path("slow", one(noisy(120, 0.01, 2)))
    assert compare.main([fast, slow]) == 1
    assert "slower" in capsys.readouterr().out
    assert compare.main([slow, fast]) == 0
    assert compare.main([fast, fast]) == 0
    assert compare.main([fast, path("wrong", one(noisy(100, 0.01, 1), problem="lost"))]) == 1
    other = path("other", {**one([1.0]), "format": 1})
    with pytest.raises(SystemExit, match="2"):
        compare.main([other, fast])
    assert "has format 1, not 2" in capsys.readouterr().err
