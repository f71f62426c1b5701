"""Ids that follow from what they are of, so that making a thing twice cannot make two."""

from hashlib import blake2b


def digest(*parts: str) -> str:
    """24 hexadecimal digits for these parts."""
    # NUL cannot occur in an id, so the parts cannot run into each other.
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
