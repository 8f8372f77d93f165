"""Only the pure engine can be run step by step: with the compiled one nothing here is collected."""

from __future__ import annotations

import shmmap

if shmmap.ENGINE != "pure":
    collect_ignore_glob = ["test_*.py"]
