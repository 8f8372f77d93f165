"""The page, and what a browser is told to let it do: nothing but what lies in its one file.

Its policy names the style and the script by their digests, and allows no markup that is made of
text (Trusted Types): a browser that knows these refuses what a mistake in the page would let in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import NamedTuple

CONTENT_TYPE = "text/html; charset=utf-8"
_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.S)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer says, beside its policy."""
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The policy of every answer that is not the page."""


class Page(NamedTuple):
    """The page.

    Attributes:
        data: its file.
        policy: its Content-Security-Policy.
    """

    data: bytes
    policy: str


def load() -> Page:
    """Read the page. Raises OSError where it was not installed."""
    data = resources.files(__package__).joinpath("page.html").read_bytes()
    digests: dict[bytes, list[str]] = {b"style": [], b"script": []}
    for kind, text in _INLINE.findall(data):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        digests[kind].append(f"'sha256-{digest}'")
    policy = "; ".join([
        NOTHING, f"style-src {' '.join(digests[b'style'])}",
        f"script-src {' '.join(digests[b'script'])}", "connect-src 'self'", "img-src data:",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    ])
    return Page(data, policy)
