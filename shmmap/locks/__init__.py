"""Floor 5: named locks, and single flight."""
