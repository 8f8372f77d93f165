"""Processes that read and write one store at once, and proof of what they wrote."""
