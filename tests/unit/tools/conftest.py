"""The command line in a process of its own, and processes that hold a map."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmmap

from .maps import HOLDER, LIMIT_S, objects, read_line


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a command of `python -m shmmap`, with what a shell does to its descriptors, outside the
    checkout."""
    return lambda command: subprocess.run(
        f"{sys.executable} -m shmmap {command}", shell=True, text=True, cwd=tmp_path,
        capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of `python -m shmmap` outside the checkout."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shmmap", *arguments], cwd=tmp_path, text=True, timeout=LIMIT_S,
            capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        )

    return command


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that open a map; each is killed and reaped at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, engine: str = shmmap.ENGINE, **parameters: object) -> Any:
        if not parameters.get("capacity"):
            parameters.setdefault("size", "1MB")
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, name, repr(parameters)], cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "SHMMAP_ENGINE": engine},
        )
        started.append(process)
        assert read_line(process) == "open"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT_S)


@pytest.fixture
def clean(name: str) -> Iterator[str]:
    """The test's map name; every file of that name is removed at the end, garbage too."""
    yield name
    for entry in objects(name):
        os.unlink(entry)
