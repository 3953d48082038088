"""Seeds that are mixed from several numbers."""

from __future__ import annotations

import hashlib

__all__ = ["mix_seed"]


def mix_seed(*words: object) -> int:
    """Seed from a hash of the words: 32 bits, which is all that torch's CPU generator uses of a seed."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
