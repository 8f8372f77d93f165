"""Floor 2: a complete small map under one lock: bytes only, statuses, no exceptions."""
