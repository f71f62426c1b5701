"""The views are a promise: columns may be added, none renamed or removed; each is explained, here and there."""

import re

import psycopg
import pytest

from tests.database import Database
from tests.reporting.views import PAGE, PROMISED, read

SHORT = {"timestamp with time zone": "timestamptz", "time without time zone": "time"}
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum),
       obj_description(c.oid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'reporting'::regnamespace ORDER BY c.relname, a.attnum
"""


@pytest.fixture
def columns(database: Database) -> list[tuple[str, str, str, str | None, str | None]]:
    """(view, column, type, its comment, the view's comment)."""
    with psycopg.connect(database.url) as connection:
        rows = connection.execute(_COLUMNS).fetchall()
    return [(view, name, SHORT.get(kind, kind), says, of_view) for view, name, kind, says, of_view in rows]


Columns = list[tuple[str, str, str, str | None, str | None]]


def test_whatever_was_promised_is_there(columns: Columns) -> None:
    there = {(view, f"{name} {kind}") for view, name, kind, _, _ in columns}
    promised = {(view, column) for view, text in PROMISED.items() for column in text.split(", ")}
    assert promised - there == set()
    assert len(promised) > 100


def test_whatever_is_there_was_promised(columns: Columns) -> None:
    for view, name, kind, _, _ in columns:
        assert f"{name} {kind}" in PROMISED[view].split(", "), f"{view}: a new column is promised in PROMISED"


def test_every_view_and_column_has_a_comment(columns: Columns) -> None:
    assert [(view, name) for view, name, _, says, of_view in columns if not says or not of_view] == []


def test_the_page_has_the_very_views_and_columns_of_the_database(columns: Columns) -> None:
    sections = re.findall(r"^### `(\w+)`\n\n(.+?)\n\n(\|.+?)\n(?:\n|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    told = [
        (view, *re.fullmatch(r"\| `(\w+)` \| (\w+) \| (.+) \|", line).groups(), " ".join(says.split()))  # type: ignore[union-attr]
        for view, says, table in sections
        for line in table.splitlines()[2:]
    ]
    assert sorted(told) == sorted(columns)


def test_the_queries_on_the_page_run_for_a_reader(database: Database) -> None:
    blocks = [block for block in re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL) if "CREATE ROLE" not in block]
    queries = [query for block in blocks for query in block.split(";") if query.strip()]
    assert len(queries) == 5
    for query in queries:
        assert read(database, query) == []
