"""The headings that scenarios stand under, in reports and in --list."""

from __future__ import annotations

ONE_OPERATION = "One operation, one process"
STARTING = "A process that starts"
SEVERAL_PROCESSES = "Several processes on one store"
THE_MAP_ITSELF = "The map itself, in different settings"
MEMORY = "Memory"
MEMORY_AFTER_CHURN = "Memory after churn"
ROOM = "Room of capacity=N"
HIT_RATIOS = "Cache: hit ratios"
NEAR_CACHE = "Cache: near cache and staleness"
SNAPSHOTS = "Cache: snapshots"
SINGLE_FLIGHT = "Cache: single flight"
WEB = "A web application"
RATES = "Limiting rates"
TIERED = "Several machines"
