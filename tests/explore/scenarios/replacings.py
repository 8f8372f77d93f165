"""Does a map that takes the place of another one lose nothing, and do all come to it?

Whatever those who use it do meanwhile, and at whatever step the one who replaces it dies.
"""

from __future__ import annotations

from ..simulator.creation_world import Processes
from ..simulator.replacing_world import SMALL

OPEN, COUNT, READ, GUARD, UNLINK = ("open",), ("count",), ("read",), ("guard",), ("unlink",)
REPLACE, BACK = ("replace",), ("replace", SMALL)
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
    Processes("one has unlinked, another goes on, a third comes", (
        (UNLINK,), (("after", 0), COUNT), (("after", 1), OPEN, READ),
    ), ((0, OPEN), (1, OPEN)), keeps=True, follows=True, bound=1, deaths=0),
    Processes("one unlinks, two go on", ((UNLINK,), (COUNT, COUNT), (COUNT, READ)),
              (*BOTH, (2, OPEN)), follows=True, bound=1, deaths=0),
    Processes("one unlinks again, another goes on", (
        (UNLINK, OPEN, UNLINK), (COUNT, COUNT),
    ), BOTH, follows=True),
)
