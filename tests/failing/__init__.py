"""Machines that fail what the library asks of the system, one call after the other."""
