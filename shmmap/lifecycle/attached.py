"""Which maps this process has open: one attachment to each, by its name and nonce."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attachment import Attachment

attachments: dict[tuple[str, int], Attachment] = {}


def nonces(name: str) -> set[int]:
    """Return the nonces of the maps of a name that this process has open. Opens no file."""
    return {nonce for known, nonce in list(attachments) if known == name}
