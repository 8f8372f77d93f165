"""Does a map that takes the place of another one lose nothing, and do all come to it?

Whatever those who use it do meanwhile, and at whatever step the one who replaces it dies.
"""

from __future__ import annotations

from ..simulator.creation_world import Processes
from ..simulator.replacing_world import SMALL, WIDE

OPEN, COUNT, READ, GUARD, UNLINK = ("open",), ("count",), ("read",), ("guard",), ("unlink",)
REPLACE, BACK = ("replace",), ("replace", SMALL)
CLOSE, FORK, COUNT_ALL = ("close",), ("fork",), ("count_all",)
REAP, LATER = ("reap",), ("later",)
ONE = ((0, OPEN), (0, COUNT))
BOTH = (*ONE, (1, OPEN))

REPLACINGS = (
    Processes("one replaces, another counts", ((REPLACE, COUNT), (COUNT, COUNT, READ)), BOTH,
              keeps=True, follows=True),
    Processes("one replaces, another opens", ((REPLACE,), (OPEN, COUNT, READ)), ONE,
              keeps=True, follows=True),
    Processes("two replace", ((REPLACE, COUNT), (REPLACE, COUNT)), BOTH, keeps=True, follows=True),
    Processes("one replaces, another has the shape back", (
        (REPLACE, COUNT), (BACK, COUNT), (COUNT, READ),
    ), (*BOTH, (2, OPEN)), keeps=True, follows=True, bound=1, deaths=0),
    Processes("one replaces, another unlinks", ((REPLACE, COUNT), (UNLINK, OPEN, COUNT)), BOTH,
              follows=True),
    Processes("one replaces, two want a named lock", ((REPLACE, GUARD), (GUARD, COUNT)), BOTH,
              keeps=True, follows=True),
    Processes("one replaces, another has a named lock all along", (
        (REPLACE, ("try_guard",)), (("guard", 0),),
    ), BOTH, keeps=True, follows=True),
    Processes("two are late for a map that was replaced", (
        (("when_late", 1, 2), REPLACE), (("count_late", 0),), (("count_late", 1), READ),
    ), (*BOTH, (2, OPEN)), keeps=True, follows=True, bound=1, deaths=0),
    Processes("one counts and dies, another replaces", ((COUNT, COUNT), (REPLACE, COUNT, READ)),
              BOTH, keeps=True, follows=True),
    Processes("one unlinks and dies, another replaces", ((UNLINK, OPEN, COUNT), (REPLACE, COUNT)),
              BOTH, follows=True),
    Processes("one goes over and dies, another replaces again", (
        (COUNT, COUNT), (("replace", WIDE), BACK), (READ, COUNT),
    ), (*BOTH, (2, OPEN)), keeps=True, follows=True, bound=1, deaths=0),
    Processes("a map of two shards is replaced", ((REPLACE,), (COUNT_ALL, READ)),
              ((0, ("open", WIDE)), (0, COUNT_ALL), (1, OPEN)), keeps=True, follows=True),
    Processes("a map is replaced under one who wants no other", (
        (REPLACE, COUNT), (("strictly", "read"), ("strictly", "count"), ("strictly", "read")),
    ), (*ONE, (1, ("open_strictly",))), keeps=True, follows=True),
    Processes("a map is replaced, and processes fork", (
        (REPLACE, FORK, READ, COUNT), (FORK, READ, COUNT),
    ), BOTH, keeps=True, follows=True),
    Processes("an ephemeral map is replaced as another leaves it", (
        (REPLACE, COUNT, CLOSE), (CLOSE,),
    ), BOTH, follows=True, ephemeral=True),
    Processes("a map that lingers is replaced, left, and opened again", (
        (REPLACE, COUNT, CLOSE), (COUNT, CLOSE, ("after", 0), OPEN, READ),
    ), BOTH, follows=True, linger=True, keeps=True, bound=1, deaths=0),
    Processes("a map that lingers is replaced, left, and looked for", (
        (REPLACE, CLOSE), (CLOSE, ("after", 0), REAP, LATER, REAP, ("is_gone",)),
    ), BOTH, follows=True, linger=True, bound=1, deaths=0),
    Processes("one has unlinked, another goes on, a third comes", (
        (UNLINK,), (("after", 0), COUNT), (("after", 1), OPEN, READ),
    ), ((0, OPEN), (1, OPEN)), keeps=True, follows=True, bound=1, deaths=0),
    Processes("one unlinks, two go on", ((UNLINK,), (COUNT, COUNT), (COUNT, READ)),
              (*BOTH, (2, OPEN)), follows=True, bound=1, deaths=0),
    Processes("one unlinks again, another goes on", (
        (UNLINK, OPEN, UNLINK), (COUNT, COUNT),
    ), BOTH, follows=True),
)
