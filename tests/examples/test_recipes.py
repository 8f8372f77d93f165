"""The recipes of the guide hold what they promise: many processes at once, some of them killed.

The functions are those of the page, as they stand there.
"""

from __future__ import annotations

import ast
import ctypes
import doctest
import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "recipes.md"
LIMIT_S = 60.0
WORKERS = 4


@pytest.fixture
def recipes(make: Callable[..., Any]) -> dict[str, Any]:
    """The functions of the page, on the test's map."""
    m = make(size="4MB")
    names: dict[str, Any] = {"m": m}
    for example in doctest.DocTestParser().get_examples(PAGE.read_text()):
        kinds = (ast.FunctionDef, ast.Import, ast.Assign)
        (statement, *more) = ast.parse(example.source).body
        is_wanted = isinstance(statement, kinds) and not more and "ShmMap" not in example.source
        if is_wanted and "token = " not in example.source.splitlines()[0]:
            exec(example.source, names)
    return names


def at_once(body: Callable[[int], None], kills: random.Random | None = None) -> int:
    """Run body(number) in so many processes; kill some at random moments; return how many."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=body, args=(number,)) for number in range(WORKERS)]
    killed = 0
    for process in processes:
        process.start()
    if kills is not None:
        for process in processes[1:]:
            time.sleep(kills.random() * 0.02)
            process.kill()
    for process in processes:
        process.join(LIMIT_S)
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
    assert killed == 0 or kills is not None
    return killed


def test_all_recipes_are_here(recipes: dict[str, Any]) -> None:
    assert {"limiter", "log_in", "change", "log_out", "count", "recent", "work_on", "progress",
            "score", "top"} <= set(recipes)


def test_exactly_so_many_calls_are_let_through(recipes: dict[str, Any]) -> None:
    allowed = RawArray(ctypes.c_int, WORKERS)
    limiter = type(recipes["limiter"])(recipes["m"], limit=150, per=3600, burst=150)

    def body(number: int) -> None:
        for _ in range(100):
            allowed[number] += bool(limiter.hit("eve"))

    at_once(body)
    assert sum(allowed) == 150


def test_no_change_of_a_session_is_lost(recipes: dict[str, Any]) -> None:
    """What `change` returned for is there, and at most one more for each that was killed."""
    deaths = 0
    for seed in range(5):
        token = recipes["log_in"]("ada")
        made = RawArray(ctypes.c_int, WORKERS)

        def body(number: int, token: str = token, made: Any = made) -> None:
            for item in range(150):
                recipes["change"](token, lambda session, item=item: {
                    **session, "cart": [*session["cart"], (number, item)]})
                made[number] += 1

        killed = at_once(body, random.Random(seed))
        deaths += killed
        cart = recipes["log_out"](token)["cart"]
        assert len(set(cart)) == len(cart)
        for number in range(WORKERS):
            items = [item for worker, item in cart if worker == number]
            assert items == list(range(len(items)))
            assert made[number] <= len(items) <= made[number] + (killed and number > 0), seed
    assert deaths > 0


def test_a_logout_is_not_undone(recipes: dict[str, Any]) -> None:
    token = recipes["log_in"]("ada")

    def body(number: int) -> None:
        while recipes["change"](token, dict) is not None:
            if number == 0:
                recipes["log_out"](token)

    at_once(body)
    assert recipes["change"](token, dict) is None
    assert ("session", token) not in recipes["m"]


def test_each_hit_counts(recipes: dict[str, Any]) -> None:
    def body(number: int) -> None:
        for hit in range(200):
            recipes["count"]("/", 60 * (hit % 4))

    at_once(body)
    assert recipes["recent"]("/", 4, 180) == 200 * WORKERS
    assert recipes["recent"]("/", 1, 180) == 50 * WORKERS


def test_a_job_is_done_whoever_dies(recipes: dict[str, Any]) -> None:
    """Each part has its result; a part is done again at most once for each worker that died."""
    parts, deaths = range(40), 0
    for seed in range(5):
        began = [RawArray(ctypes.c_int, WORKERS) for _ in parts]

        def body(number: int, seed: int = seed, began: Any = began) -> None:
            def do(piece: int) -> int:
                began[piece][number] += 1
                time.sleep(0.001)
                return piece * piece

            order = random.Random(number).sample(parts, len(parts))
            recipes["work_on"](seed, order, do)

        killed = at_once(body, random.Random(seed))
        deaths += killed
        assert recipes["progress"](seed, parts) == 1.0
        assert all(recipes["m"]["job", seed, part] == part * part for part in parts)
        assert len(parts) <= sum(map(sum, began)) <= len(parts) + killed, f"seed {seed}"
    assert deaths > 0


def test_the_best_score_stays(recipes: dict[str, Any]) -> None:
    def body(number: int) -> None:
        points = list(range(100))
        random.Random(number).shuffle(points)
        for point in points:
            recipes["score"](f"p{point % 5}", point + number)

    at_once(body)
    best = {f"p{n}": 95 + n + WORKERS - 1 for n in range(5)}
    assert recipes["top"](5) == sorted(
        ((f"score:{player}", points) for player, points in best.items()), key=lambda i: -i[1])
