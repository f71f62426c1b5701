"""The table of planted faults does not rot: each can still be planted, and the tests beside it still exist."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

from tests.planted.table import FAULTS

ROOT = Path(__file__).resolve().parents[2]


def test_each_fault_can_be_planted_and_leaves_python() -> None:
    for fault in FAULTS:
        source = (ROOT / fault.file).read_text()
        assert source.count(fault.old) == 1, fault.name
        planted = source.replace(fault.old, fault.new)
        assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(source)), fault.name


def test_the_tests_that_catch_each_exist() -> None:
    for fault in FAULTS:
        assert fault.caught_by, fault.name
        for each in fault.caught_by:
            file, _, name = each.partition("::")
            assert not name or name in _tests_of(file), (fault.name, each)


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1] == []


@cache
def _tests_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
