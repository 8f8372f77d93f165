"""The model needs no engine: it is checked once, not for each."""

from __future__ import annotations

import shmmap

if shmmap.ENGINE != "pure":
    collect_ignore_glob = ["test_*.py"]
