"""Limiters of tiers: the fixtures of tiers, and clocks that tests move."""

from __future__ import annotations

from ..tiers.conftest import cluster, running, server, store, tiers

__all__ = ["cluster", "running", "server", "store", "tiers"]
