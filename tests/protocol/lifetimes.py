"""What tests of making and ending a map ask of the system."""

from __future__ import annotations

import os

from shmmap.memory.layout import constants

K = constants()


def objects(name: str) -> list[str]:
    """List a map's objects in /dev/shm."""
    return sorted(e for e in os.listdir("/dev/shm") if f"shmmap.{name}" in e.split("sem.")[-1])
