"""The parts of example 1: what is computed, where results are kept, and who works."""
