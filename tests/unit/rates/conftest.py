"""Limiters of tiers: the fixtures of tiers, and clocks that tests move."""

from __future__ import annotations

from ..tiers.conftest import running, server, store, tiers

__all__ = ["running", "server", "store", "tiers"]
