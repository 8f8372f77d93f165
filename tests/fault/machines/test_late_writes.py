"""A write that has failed does not come through later, over one that was acknowledged since.

The system sends what a closed connection had to send for minutes, until it comes through. So a SET
that went into a cut wire would be carried out once that is whole again.
"""

from __future__ import annotations

import time
from functools import partial

from shmmap import StoreUnavailable

from ...machines.network import within
from ...machines.servers import Server
from ...machines.workers import Plan

CUT_S = 0.2  # longer than a writer waits
LATE_S = 1.2


def sets(plan, child):
    """Set what is told; tell whether it was, or perhaps was."""
    tier = plan.tier("linearizable")
    child.tell("ready")
    while True:
        number = child.hear()
        try:
            tier["k"] = number
        except StoreUnavailable as error:
            child.tell(("failed", error.was_sent))
        else:
            child.tell(("acknowledged", True))


def test_a_write_that_failed_in_a_cut_wire(network, folder):
    nodes = [network.node(name, has_shm=True) for name in "ab"]
    server = Server(network.node("store"), folder)
    try:
        server.start()
        plan = Plan(server.node.address, (), ("a", "b"), 1, {})
        a, b = children = [within(node, partial(sets, plan), 60) for node in nodes]
        try:
            for child in children:
                assert child.hear() == "ready"
                child.tell(1)
                assert child.hear() == ("acknowledged", True)
            network.part(nodes[0])
            a.tell(2)
            assert a.hear() == ("failed", True)
            time.sleep(CUT_S)
            network.heal()
            b.tell(3)
            assert b.hear() == ("acknowledged", True)
            until = time.monotonic() + LATE_S
            while time.monotonic() < until:
                assert server.client.get("m:k") == b"3"
                time.sleep(0.02)
        finally:
            for child in children:
                child.kill()
    finally:
        server.kill()
