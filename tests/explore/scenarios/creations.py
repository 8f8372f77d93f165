"""Do processes that open, unlink, leave and lock one name come to one map, and know who lives?

Whatever their order, whoever dies, and whichever process id, row or descriptor is used again.
"""

from __future__ import annotations

from ..simulator.creation_world import Processes

OPEN, SET, LOCK, CLOSE, UNLINK = ("open",), ("set",), ("lock",), ("close",), ("unlink",)
REAP, LATER = ("reap",), ("later",)
BOTH_OPEN = ((0, OPEN), (1, OPEN))

CREATIONS = (
    Processes("two open", ((OPEN, SET), (OPEN, SET))),
    Processes("three open", ((OPEN,), (OPEN,), (OPEN, SET)), bound=1, deaths=0),
    Processes("one unlinks, another opens", ((UNLINK,), (OPEN, SET)), ((0, OPEN),)),
    Processes("one unlinks, another uses it", ((UNLINK,), (SET, OPEN, SET)), BOTH_OPEN),
    Processes("two unlink, a third opens", ((UNLINK,), (UNLINK,), (OPEN,)), BOTH_OPEN, bound=1,
              deaths=0),
    Processes("unlink and create, twice", ((UNLINK, OPEN, SET), (OPEN, UNLINK)), ((0, OPEN),),
              bound=1),
    Processes("an ephemeral map, the last leaves as one comes", ((CLOSE,), (OPEN, SET)),
              ((0, OPEN),), ephemeral=True),
    Processes("an ephemeral map, two come and go", ((OPEN, CLOSE), (OPEN, SET, CLOSE)),
              ephemeral=True, bound=1),
    Processes("an ephemeral map, replaced under a forked child", (
        (("fork_closed",), ("after", 1), SET), (("after", 2), OPEN, SET), (),
    ), ((2, OPEN), (0, OPEN)), ephemeral=True, bound=1, deaths=0),
    Processes("an ephemeral map, kept by a forked child", (
        (("fork",), ("after", 1), SET), (("after", 2), OPEN, SET, CLOSE), (),
    ), ((2, OPEN), (0, OPEN)), ephemeral=True, bound=1, deaths=0),
    Processes("an ephemeral map, opened twice by one process", (
        (("open_again",), LOCK), (LOCK,),
    ), BOTH_OPEN, ephemeral=True, apart=(1,)),
    Processes("a map that lingers, the last leaves as one comes", (
        (SET, CLOSE), (OPEN, SET),
    ), ((0, OPEN),), linger=True, keeps=True),
    Processes("a map that lingers, two come and go, one looks for what is over", (
        (OPEN, SET, CLOSE), (OPEN, SET, CLOSE, REAP),
    ), linger=True, keeps=True, bound=1),
    Processes("a map that has lingered is removed as one comes", (
        (REAP,), (OPEN, SET),
    ), ((0, OPEN), (0, CLOSE), (0, LATER)), linger=True, keeps=True),
    Processes("a map that lingers, kept by a forked child", (
        (("fork",), ("after", 1), SET), (LATER, REAP, OPEN, SET, CLOSE), (),
    ), ((2, OPEN), (0, OPEN)), linger=True, keeps=True, bound=1, deaths=0),
    Processes("a map that lingers, left, opened again and killed", (
        (SET,), (("after", 0), OPEN, SET),
    ), ((1, OPEN), (1, CLOSE), (0, OPEN), (0, LATER)), linger=True, keeps=True, bound=1, deaths=0),
    Processes("a map that lingers, one leaves, the other is killed", (
        (SET,), (LATER, ("after", 0), OPEN, SET),
    ), ((0, OPEN), (1, OPEN), (1, CLOSE)), linger=True, keeps=True, bound=1, deaths=0),
    Processes("a map that lingers, looked at while it is used", (
        (SET,), (("after", 0), OPEN, SET),
    ), ((0, OPEN), (1, REAP), (1, LATER)), linger=True, keeps=True, bound=1, deaths=0),
    Processes("a map that lingers, found after a death", (
        (OPEN, SET), (REAP, LATER, REAP, OPEN, SET),
    ), linger=True, bound=1, deaths=0),
    Processes("two want a lock", ((LOCK,), (LOCK, SET)), BOTH_OPEN),
    Processes("two want a lock, in two pid namespaces", ((LOCK,), (LOCK, SET)), BOTH_OPEN,
              apart=(1,)),
    Processes("a holder has lost its liveness lock", (
        (("stray_close",), LOCK), (LOCK,),
    ), BOTH_OPEN),
    Processes("a holder has lost its liveness lock, a child comes", (
        (("stray_close",), LOCK), (("clear_rows",), ("fork",), LOCK),
    ), BOTH_OPEN),
    Processes("the dead's pid is used again", ((LOCK,), (("after", 0), ("after", 2)), (LOCK,)),
              ((0, OPEN), (2, OPEN)), bound=1, deaths=0, alike=(0, 1)),
    Processes("the dead's row is used again", (
        (LOCK,), (("after", 0), OPEN, ("after", 2)), (LOCK,),
    ), ((0, OPEN), (2, OPEN)), bound=1, deaths=0),
    Processes("two forked children come", ((("fork",), SET, LOCK), (("fork",), SET, LOCK)),
              BOTH_OPEN),
    Processes("rows are cleared as processes come", (
        (OPEN, LOCK), (OPEN, ("clear_rows",), LOCK), (OPEN,),
    ), bound=1, deaths=0),
)
