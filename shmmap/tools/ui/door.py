"""Who is answered: whoever knows the token, and asks for this server by an address of its own.

The token is in the address of the page, and every request has it. The `Host` of a request is looked
at because a browser can be led here by somebody else's name (DNS rebinding): the page of that
name would then be of one origin with this server, and could read what it answers.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOKEN_BYTES = 24


class Door:
    """The token of one run of the server, and the hosts that it is asked for by.

    Attributes:
        token: what every request must have; text that needs no escapes in an address.
    """

    def __init__(self, *bound: str) -> None:
        """Make a new token. `bound`: the hosts that the server listens at."""
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._hosts = {*LOOPBACK, *(host.lower() for host in bound)}
        self._takes_all = any(
            address is not None and address.is_unspecified for address in map(_address, bound))

    def knows(self, token: str) -> bool:
        """Tell whether that is the token, in a time that says nothing about it."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def is_asked_for(self, host: str) -> bool:
        """Tell whether a `Host` names this server. The port is not compared: that of a tunnel
        (`ssh -L`) is another one. Where the server listens at all addresses (0.0.0.0), each that is
        written as a number will do: it is names that lead a browser astray.

        >>> door = Door("127.0.0.1")
        >>> [door.is_asked_for(host) for host in ("localhost:9", "[::1]:9", "evil.example", "")]
        [True, True, False, False]
        """
        name = host.lower().removesuffix(".")
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        return name in self._hosts or (self._takes_all and _address(name) is not None)


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine reach that host."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
