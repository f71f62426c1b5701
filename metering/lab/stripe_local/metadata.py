"""Metadata: what is given is merged in; an empty value takes a key away, an empty text all of them."""

from typing import Any


def merge_metadata(before: dict[str, str], given: Any) -> dict[str, str]:
    """The metadata of an object after an update."""
    if given is None:
        return dict(before)
    if given == "":
        return {}
    return {key: value for key, value in {**before, **given}.items() if value != ""}
