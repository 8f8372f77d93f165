"""The questions that a run asks, a file each."""
