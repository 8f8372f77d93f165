"""The way over from an old cache to a new one: `Mirror`."""
