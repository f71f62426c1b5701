"""Forms as Stripe takes them: `lines[0][amount]=5` and `expand[]=a` as nested dictionaries and lists of text."""

import re
from collections.abc import Iterable
from typing import Any

from metering.lab.stripe_local.errors import RefusedError

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY = re.compile(r"\[([^\[\]]*)\]")
_MAX_DEPTH = 8


def parse_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Names with brackets as a tree; keys that are all numbers become lists.

    Raises:
        RefusedError: a name is no name, or means two things.
    """
    tree: dict[str, Any] = {}
    for name, value in pairs:
        found = _NAME.fullmatch(name)
        keys = [found[1], *_KEY.findall(found[2])] if found else []
        if not found or len(keys) > _MAX_DEPTH:
            raise RefusedError(f"Invalid parameter name: {name[:100]}", kept=False)
        _put(tree, keys, value, name)
    return {key: _listed(value) for key, value in tree.items()}


def _put(tree: dict[str, Any], keys: list[str], value: str, name: str) -> None:
    *path, last = keys
    for key in path:
        tree = tree.setdefault(key if key else str(len(tree)), {})
        if not isinstance(tree, dict):
            raise RefusedError(f"Invalid parameter: {name[:100]} is given as a value and as an object", kept=False)
    tree[last if last else str(len(tree))] = value


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner
