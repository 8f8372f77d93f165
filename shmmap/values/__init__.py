"""Floor 3: Python objects as bytes."""
