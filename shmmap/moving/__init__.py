"""Changing the geometry while everybody works: what is asked for, who moves it, who decides it."""
