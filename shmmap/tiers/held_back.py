"""What waits in the journal, and is not sent to the store for a while.

    refused      the store does not take it: sent once more after AGAIN_S, or as it is overwritten
    not sent     the server that has it is away: after AGAIN_S
    unanswered   it was sent, and nobody knows: after AGAIN_S, and not before the store would refuse
                 what was sent; else that could come after, and over, what is sent next

Names whose server is away wait together: as some of them are sent again in vain, all others go on
waiting. A name that was not tried since its server went is tried once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

AGAIN_S = 0.25
_ANY = 0  # version of a record: no record has it


class _Hold(NamedTuple):
    version: int
    until: int
    server: str = ""  # "": it waits alone


class HeldBack:
    """Names that are held back; times are of the machine's clock since boot.

    Attributes:
        open_until: by then the store refuses all that was sent, and not answered.
    """

    def __init__(self) -> None:
        self._holds: dict[bytes, _Hold] = {}
        self._away: dict[str, int] = {}  # servers, until when all that wait for them do
        self.open_until = 0

    def __len__(self) -> int:
        return len(self._holds)

    def refused(self, name: bytes, version: int, now: int) -> None:
        """Hold a record back that the store does not take."""
        self._holds[name] = _Hold(version, now + int(AGAIN_S * 1e9))

    def not_sent(self, name: bytes, now: int, server: str = "") -> None:
        """Hold a name back whose server is away."""
        until = now + int(AGAIN_S * 1e9)
        self._holds[name] = _Hold(_ANY, until, server)
        if server:
            self._away[server] = until

    def unanswered(self, name: bytes, now: int, open_until: int, server: str = "") -> None:
        """Hold a name back of which something is under way."""
        self.not_sent(name, now, server)
        hold = self._holds[name]
        self._holds[name] = hold._replace(until=max(hold.until, open_until))
        self.open_until = max(self.open_until, open_until)

    def answered(self, name: bytes) -> None:
        """Hold a name back no more, nor others that waited for the same server alone."""
        hold = self._holds.pop(name, None)
        if hold is not None:
            self._away.pop(hold.server, None)

    def holds(self, name: bytes, now: int, version: int = _ANY) -> bool:
        """Tell whether a name is held back, or that record of it."""
        hold = self._holds.get(name)
        return hold is not None and hold.version in (_ANY, version) and (
            now < max(hold.until, self._away.get(hold.server, 0))
        )

    def forget_but(self, names: Iterable[bytes], now: int) -> None:
        """Forget names that wait no more. What is under way goes on, whatever waits."""
        if self._holds:
            kept = set(names)
            self._holds = {name: hold for name, hold in self._holds.items()
                           if name in kept or now < hold.until}
