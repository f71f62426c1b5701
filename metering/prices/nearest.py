"""The nearest name: a known model whose name is like one that no card has, for a person who sets a rate."""

from collections.abc import Mapping
from difflib import get_close_matches

# Only names that begin alike are compared letter by letter, which takes long, and no name is longer than this.
_HEAD, _LONGEST = 4, 120
# A name of fewer letters is part of too many others.
_SHORTEST_PART = 4


class Names:
    """The names of models, each with the text that says which model it means."""

    __slots__ = ("_by_head", "_letters", "_meaning")

    def __init__(self, meaning: Mapping[str, str]) -> None:
        self._meaning = dict(sorted(meaning.items()))
        self._letters = {name: _letters(name) for name in self._meaning}
        self._by_head: dict[str, list[str]] = {}
        for name in self._meaning:
            self._by_head.setdefault(_head(name), []).append(name)

    def __bool__(self) -> bool:
        return bool(self._meaning)

    def nearest(self, name: str) -> str | None:
        """What the longest name means that is part of `name`, or else the most similar one that begins alike."""
        name = name[:_LONGEST]
        letters = _letters(name)
        parts = [each for each, part in self._letters.items() if len(part) >= _SHORTEST_PART and part in letters]
        if parts:
            return self._meaning[max(parts, key=len)]
        alike = get_close_matches(name, self._by_head.get(_head(name), ()), n=1)
        return self._meaning[alike[0]] if alike else None


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name))


def _head(name: str) -> str:
    """How the name begins, after the names of vendors."""
    return _letters(name.rpartition("/")[2])[:_HEAD]
