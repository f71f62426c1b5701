"""The views are a promise: columns may be added, none renamed or removed; each is explained, here and there."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.database import Database
from tests.reporting.views import read

PAGE = (Path(__file__).parents[2] / "docs" / "reporting.md").read_text()
SHORT = {"timestamp with time zone": "timestamptz", "time without time zone": "time"}
USAGE = (
    "input_tokens {0}, output_tokens {0}, cache_read_input_tokens {0}, cache_write_input_tokens {0}, "
    "reasoning_output_tokens {0}, input_audio_tokens {0}, output_audio_tokens {0}"
)
# What was promised. A new column is added here; whatever is here stays.
PROMISED = {
    "daily_usage": "day timestamptz, customer_id text, customer_name text, provider text, model text, "
    "api_key_id text, outcome text, usage_source text, retry boolean, stream_count bigint, "
    f"{USAGE.format('numeric')}, usd_cents numeric, usd numeric",
    "charges": "customer_id text, customer_name text, stream_id text, charge_id text, period text, "
    "booked_at timestamptz, revision integer, started_at timestamptz, ended_at timestamptz, outcome text, "
    "provider text, model text, response_model text, rated_model text, model_rule text, service_tier text, "
    f"api_key_id text, {USAGE.format('bigint')}, usage_source text, input_unknown boolean, cancel_policy text, "
    "cancel_policy_version integer, rate_card_id text, markup_percent numeric, retry boolean, retry_of text, "
    "resolution text, lines jsonb, charged_usd_cents numeric, adjusted_usd_cents numeric, "
    "by_hand_usd_cents numeric, usd_cents numeric, usd numeric",
    "invoice_lines": "period text, number text, customer_id text, customer_name text, invoice_id text, "
    "created_at timestamptz, push_state text, stripe_invoice_id text, stripe_number text, line_key text, "
    "kind text, provider text, model text, month text, adjustment_id text, reason text, starts_at timestamptz, "
    f"ends_at timestamptz, stream_count bigint, {USAGE.format('numeric')}, usd_cents numeric, usd numeric, "
    "billed_cents bigint, billed_usd numeric",
    "unbilled": "customer_id text, customer_name text, period text, kind text, stream_count bigint, "
    "usd_cents numeric, usd numeric",
    "drift": "reconciliation_id text, started_at timestamptz, finished_at timestamptz, finding integer, "
    "found_at timestamptz, customer_id text, customer_name text, period text, invoice_id text, number text, "
    "stripe_invoice_id text, drift_class text, finalized boolean, detail text, remedy text, "
    "repaired_at timestamptz, repair text, still_there boolean, drift_cents bigint, drift_usd numeric",
    "rates": "provider text, model text, customer_id text, rate_card_id text, effective_from timestamptz, "
    "effective_to timestamptz, kind text, service_tier text, daily_start time, daily_end time, "
    "above_input_tokens bigint, usd_per_million numeric, provenance text, created_at timestamptz",
}

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
    assert len(queries) == 4
    for query in queries:
        assert read(database, query) == []
