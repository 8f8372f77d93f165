"""Fail the k-th allocation of every public operation, for k = 1, 2, ... until none fails.

As SQLite's out-of-memory loop does: in every state of the map, of Python's allocators and of the C
library's, that one alone or all from it on. After each: success or a documented error, `check()`
clean, nothing that was acknowledged lost, nothing left behind, and the next operation works.
Source: "How SQLite is tested", 3.1, sqlite.org/testing.html.
"""
