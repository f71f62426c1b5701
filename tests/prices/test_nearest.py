"""The nearest name: the longest one that is part of it, or the most similar one that begins alike."""

import pytest

from metering.prices.nearest import Names

NAMES = ("gpt-4o", "gpt-4o-mini", "gpt-4", "o3", "acme/claude-opus-4.7", "claude-haiku")
KNOWN = Names({name: f"p/{name}" for name in NAMES})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("my-gpt-4o-mini-prod", "p/gpt-4o-mini"),
        ("gpt4o_eu", "p/gpt-4o"),
        ("azure/gpt-4-32k", "p/gpt-4"),
        ("other/claude-opus-4.8", "p/acme/claude-opus-4.7"),  # what follows the vendor begins alike
        ("claude-haikus", "p/claude-haiku"),
        ("my-o3-model", None),  # so short a name is part of too many others
        ("llama", None),
        ("", None),
        ("x" * 1_000_000, None),
    ],
)
def test_a_name_is_like_another_or_none(name: str, nearest: str | None) -> None:
    assert KNOWN.nearest(name) == nearest


def test_the_order_in_which_names_are_known_does_not_matter() -> None:
    names = [f"model-{letter}" for letter in "abcdef"]
    one = Names({name: name for name in names})
    other = Names({name: name for name in reversed(names)})
    assert one.nearest("model-x") == other.nearest("model-x")
    assert not Names({})
    assert one
