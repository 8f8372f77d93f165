"""Where the runner lives, and which shmmap it measures: the installed one before the checkout's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def prefer_installed() -> None:
    """Move the checkout to the end of sys.path.

    `python -m bench` puts the checkout first, where its source tree, perhaps not built, would
    shadow an installed shmmap. At the end it still serves where none is installed. Spawned
    children get this process's sys.path, so they import the same one.
    """
    kept = [entry for entry in sys.path if Path(entry or ".").resolve() != CHECKOUT]
    sys.path[:] = [*kept, str(CHECKOUT)]


def revision() -> str:
    """Return the checkout's git revision, with "+changes" if files differ; "unknown": no git."""
    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments],
            capture_output=True, text=True, timeout=20, check=True,
        )
        return run.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def same_sources(package: Path) -> bool:
    """Tell whether a package directory has the checkout's sources, so that the revision fits."""
    def sources(directory: Path) -> dict[str, bytes]:
        return {
            str(file.relative_to(directory)): file.read_bytes()
            for pattern in ("*.py", "*.pxd")
            for file in directory.rglob(pattern)
        }

    return sources(package) == sources(CHECKOUT / "shmmap")
