"""Which model a name means: each kind of clause, and dates written in two ways."""

from typing import Any

import pytest

from metering.prices.model_names import matching_rule, spellings


@pytest.mark.parametrize(
    ("clause", "yes", "no"),
    [
        ({"equals": "GPT-5"}, "gpt-5", "gpt-5-mini"),
        ({"starts_with": "gpt-5"}, "gpt-5-mini", "my-gpt-5"),
        ({"ends_with": "mini"}, "gpt-5-mini", "mini-2"),
        ({"contains": "5"}, "gpt-5-mini", "gpt-4"),
        ({"regex": "^gpt-[45]$"}, "gpt-4", "gpt-45"),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", "c"),
        ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, "abz", "ab"),
    ],
)
def test_a_clause_is_satisfied_by_names_of_its_kind_only(clause: dict[str, Any], yes: str, no: str) -> None:
    assert matching_rule(clause, yes) is not None
    assert matching_rule(clause, no) is None


def test_the_rule_is_the_part_that_was_satisfied() -> None:
    clause = {"or": [{"equals": "x"}, {"and": [{"starts_with": "a"}, {"contains": "b"}]}]}
    assert matching_rule(clause, "ab") == "starts_with a and contains b"
    assert matching_rule(clause, "x") == "equals x"


@pytest.mark.parametrize("clause", [{"sounds_like": "x"}, {"or": "x"}, {"equals": 5}])
def test_an_unknown_clause_is_an_error_and_no_match(clause: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown name clause"):
        matching_rule(clause, "x")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("opus-20260131", ["opus-20260131", "opus-2026-01-31"]),
        ("opus-20260131-fast", ["opus-20260131-fast", "opus-2026-01-31-fast"]),
        ("opus-20260131:free", ["opus-20260131:free", "opus-2026-01-31:free"]),
        ("opus-20260231", ["opus-20260231"]),  # there is no such day
        ("opus-19990131", ["opus-19990131"]),
        ("opus-202601311", ["opus-202601311"]),
        ("opus", ["opus"]),
    ],
)
def test_a_compact_date_is_also_spelled_out(name: str, found: list[str]) -> None:
    assert list(spellings(name)) == found
