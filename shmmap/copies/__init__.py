"""Floor 7: snapshots, dumps, loads and merges."""
