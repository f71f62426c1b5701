"""Ids derived from what they identify, so that creating the same thing twice yields one id."""

from hashlib import blake2b


def digest(*parts: str) -> str:
    """A hash of the parts, as 24 hexadecimal digits."""
    # No id contains NUL, so different parts never make the same text.
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
