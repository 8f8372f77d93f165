"""The cable of our own: what it does is of its seed, and packets are late, lost and doubled."""

from __future__ import annotations

import socket
import time

from ...machines.network import within
from ...machines.wire import Chance

SENT = 200


def test_what_becomes_of_frames_is_of_the_seed():
    def fates(seed: int) -> list[list[float]]:
        chance = Chance(seed)
        return [list(chance.delays(0.05, 0.02, 0.2, 0.1)) for _ in range(5000)]

    drawn = fates(1)
    assert drawn == fates(1) != fates(2)
    kinds = [len(one) for one in drawn]
    assert 850 < kinds.count(0) < 1150 and 320 < kinds.count(2) < 480
    delays = [delay for one in drawn for delay in one]
    assert 0.03 <= min(delays) < 0.032 and 0.068 < max(delays) <= 0.07


def test_a_cable_is_slow_and_loses(network):
    near, far = network.node("near", wire_seed=7), network.node("far")
    (wire,) = network.wires

    def hear(child):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
            ear.bind((far.address, 5000))
            ear.settimeout(0.3)
            child.tell("ready")
            heard = []
            try:
                while True:
                    sent = float(ear.recv(100))
                    heard.append(time.monotonic() - sent)
            except TimeoutError:
                return heard

    def speak(child):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            for _ in range(SENT):
                mouth.sendto(repr(time.monotonic()).encode(), (far.address, 5000))
                time.sleep(0.001)

    for settings, is_bad in (((), False), ((0.02, 0.01, 0.3, 0.0), True)):
        wire.set(*settings)
        ear = within(far, hear, 60)
        try:
            assert ear.hear() == "ready"
            within(near, speak, 60).end()
            heard = ear.end()
        finally:
            if ear.status is None:
                ear.kill()
        assert (0.55 < len(heard) / SENT < 0.85) if is_bad else len(heard) == SENT
        assert min(heard) >= (0.01 if is_bad else 0.0) and (min(heard) < 0.02 or not is_bad)
