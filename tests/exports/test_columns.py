"""Columns: where each is in a row; every export's are named once and explained."""

import pytest

from metering.exports.columns import Column, Kind, column_index
from metering.exports.export_month import COLUMNS, ExportKind


def test_a_column_is_found_by_its_name() -> None:
    columns = [Column(name, Kind.TEXT, "of no use") for name in "abc"]
    assert [column_index(columns, name) for name in "abc"] == [0, 1, 2]
    with pytest.raises(ValueError, match="not in list"):
        column_index(columns, "d")


@pytest.mark.parametrize("kind", ExportKind)
def test_the_columns_of_an_export_are_named_once_and_explained(kind: ExportKind) -> None:
    columns = COLUMNS[kind]
    names = [column.name for column in columns]
    assert len(names) == len(set(names)) > 10
    assert all(column.meaning for column in columns)
    assert all(column_index(columns, name) == place for place, name in enumerate(names))
    # Only an amount has digits behind the point.
    assert not [column.name for column in columns if column.scale and column.kind is not Kind.NUMBER]
