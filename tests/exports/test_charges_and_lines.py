"""The exports of charges and of invoice lines: every column, in both formats, and nothing of anybody else."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from metering.customers.store import UnknownCustomerError
from metering.db.engine import DatabaseUnavailableError, transaction
from metering.events.usage import COUNTERS, Usage
from metering.exports.columns import Column, Kind
from metering.exports.csv_file import defused
from metering.exports.export_month import COLUMNS, ExportKind, ExportStoppedError
from metering.exports.month_rows import UnequalExportError
from metering.exports.queries.charges import ENTRY_COLUMNS
from tests.builders import end, start
from tests.exports.files import content, csv_rows, export, parquet_rows, read_csv
from tests.exports.scene import HOSTILE, LATER, NIGHT, Scene

DOCS = Path(__file__).parent.parent.parent / "docs/exports.md"
KINDS = list(ExportKind)
PERIODS = ("2026-11", "2026-12")
# What comes from outside, and begins like a formula somewhere in the scene.
HOSTILE_COLUMNS = {
    ExportKind.CHARGES: {
        *("customer_id", "customer_name", "stream_id", "provider", "model", "rated_model", "service_tier"),
        *("api_key_id", "reason"),
    },
    ExportKind.INVOICE_LINES: {"customer_id", "customer_name", "provider", "model", "reason"},
    ExportKind.FOCUS: {
        *("BillingAccountId", "BillingAccountName", "HostProviderName", "PublisherName", "SkuId"),
        *("x_ApiKeyId", "x_Model", "x_Provider", "x_RatedModel"),
    },
}


def one(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (found,) = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    return found


def test_a_charge_has_every_column(shared_scene: Scene) -> None:
    row = one(parquet_rows(shared_scene.service.engine, "charges"), stream_id="s1")
    (invoice,) = shared_scene.invoices()
    with transaction(shared_scene.service.engine) as connection:
        (charge,) = connection.execute(text("SELECT * FROM charges WHERE stream_id = 's1'"))
    lines = json.loads(row.pop("lines"))
    assert row == {
        "row_kind": "charge",
        "period": "2026-11",
        "customer_id": "acme",
        "customer_name": HOSTILE,
        "invoice_id": invoice.invoice.invoice_id,
        "invoice_number": invoice.number,
        "line_key": "usage/anthropic/claude-opus-4.7",
        "charge_id": charge.charge_id,
        "stream_id": "s1",
        "adjustment_id": None,
        "revision": None,
        "reason": None,
        "booked_by": None,
        "booked_at": datetime(2026, 11, 20, tzinfo=UTC),
        "started_at": NIGHT,
        "ended_at": NIGHT + timedelta(seconds=4),
        "outcome": "cancelled",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "response_model": "claude-opus-4.7",
        "rated_model": charge.rated_model,
        "model_rule": charge.model_rule,
        "service_tier": "flex",
        "api_key_id": "@key",
        "input_tokens": 812,
        "output_tokens": 120_037,
        "cache_read_input_tokens": 200,
        "cache_write_input_tokens": None,
        "reasoning_output_tokens": None,
        "input_audio_tokens": None,
        "output_audio_tokens": None,
        "usage_source": "provider",
        "input_unknown": False,
        "cancel_policy": "delivered",
        "cancel_policy_version": 0,
        "rate_card_id": charge.rate_card_id,
        "markup_percent": Decimal("-12.5"),
        "retry_of": None,
        "resolution": None,
        "response_provider": None,
        "price_source": "rate_card",
        "upstream_usd_cents": None,
        "flags": "",
        "inlet": "events",
        **dict.fromkeys(COUNTERS[7:]),
        "tags": '{"cost":"+1","team":"search"}',
        "cost_usd_cents": Decimal("262.8574375"),
        "cost_usd": Decimal("2.628574375"),
    }
    assert [(line["kind"], line["quantity"], Decimal(line["usd_cents"])) for line in lines] == [
        ("input", 612, Decimal("0.26775")),
        ("cache_read", 200, Decimal("0.00875")),
        ("output", 120_037, Decimal("262.5809375")),
    ]


def test_what_followed_has_rows_of_its_own_with_the_difference(shared_scene: Scene) -> None:
    november, december = (parquet_rows(shared_scene.service.engine, "charges", period) for period in PERIODS)
    within = one(november, row_kind="adjustment", stream_id="s2")
    assert (within["reason"], within["revision"], within["line_key"]) == (
        "late_facts",
        1,
        "usage/anthropic/claude-opus-4.7",
    )
    assert (within["input_tokens"], within["output_tokens"], within["usage_source"]) == (0, 89_963, "provider")
    assert within["ended_at"] == NIGHT + timedelta(hours=10)
    assert json.loads(within["lines"])[1]["quantity"] == 90_000
    taken_back = one(december, row_kind="adjustment", stream_id="s1")
    assert taken_back["line_key"] == "adjustment/2026-11/anthropic/claude-opus-4.7"
    assert (taken_back["cost_usd_cents"], taken_back["output_tokens"]) == (Decimal("-262.8574375"), -120_037)
    assert (taken_back["lines"], taken_back["outcome"], taken_back["invoice_id"]) == (None, "cancelled", None)
    late = one(december, stream_id="late")
    assert (late["row_kind"], late["line_key"]) == ("charge", "late_usage/2026-11/anthropic/claude-opus-4.7")


def test_amounts_by_hand_say_who_booked_them_and_why(shared_scene: Scene) -> None:
    november, december = (parquet_rows(shared_scene.service.engine, "charges", period) for period in PERIODS)
    credit = one(november, row_kind="credit")
    assert credit["line_key"] == f"credit/{credit['adjustment_id']}"
    assert (credit["reason"], credit["booked_by"]) == ('-2+3 for "you",\r\nsorry', "key_admin")
    assert (credit["stream_id"], credit["cost_usd_cents"]) == (None, Decimal("-12.25"))
    correction = one(december, row_kind="correction")
    assert (correction["stream_id"], correction["booked_at"]) == ("s2", LATER)
    assert (correction["model"], correction["cost_usd_cents"]) == ("claude-opus-4.7", Decimal("3.5"))


def test_what_is_left_over_is_taken_away_and_carried_in_by_the_next_month(scene: Scene) -> None:
    engine = scene.service.engine
    left = one(parquet_rows(engine, "charges"), row_kind="remainder", customer_id="acme")
    assert (left["line_key"], left["cost_usd_cents"]) == ("remainder", Decimal("-0.8376875"))
    assert scene.close("2026-12", force_reason="for the test") == {}
    carried = one(parquet_rows(engine, "charges", "2026-12"), row_kind="carried_in", customer_id="acme")
    assert (carried["line_key"], carried["cost_usd_cents"]) == ("carried_in/2026-11", Decimal("0.8376875"))
    line = one(parquet_rows(engine, "invoice-lines", "2026-12"), kind="carried_in", customer_id="acme")
    assert (line["line_key"], line["exact_usd_cents"]) == ("carried_in/2026-11", Decimal("0.8376875"))


def test_an_invoice_line_has_every_column(shared_scene: Scene) -> None:
    row = one(parquet_rows(shared_scene.service.engine, "invoice-lines"), customer_id="acme", kind="usage")
    (invoice,) = shared_scene.invoices()
    begin, end = datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 12, 1, 5, tzinfo=UTC)
    assert row == {
        "invoice_number": invoice.number,
        "invoice_id": invoice.invoice.invoice_id,
        "customer_id": "acme",
        "customer_name": HOSTILE,
        "period": "2026-11",
        "period_starts_at": begin,
        "period_ends_at": end,
        "line_key": "usage/anthropic/claude-opus-4.7",
        "kind": "usage",
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "month": None,
        "adjustment_id": None,
        "reason": None,
        "starts_at": begin,
        "ends_at": end,
        "stream_count": 2,
        "input_tokens": 1_624,
        "output_tokens": 210_037,
        "cache_read_input_tokens": 200,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        **dict.fromkeys(COUNTERS[7:], 0),
        "exact_usd_cents": Decimal("460.0876875"),
        "billed_cents": 460,
        "invoice_exact_usd_cents": Decimal("447.8376875"),
        "invoice_carried_in_usd_cents": Decimal(0),
        "invoice_billed_cents": 447,
        "invoice_remainder_usd_cents": Decimal("0.8376875"),
        "state": "pending",
        "stripe_invoice_id": None,
        "stripe_number": None,
        "exact_usd": Decimal("4.600876875"),
        "billed_usd": Decimal("4.6"),
        "invoice_billed_usd": Decimal("4.47"),
        "invoice_prepaid_usd_cents": Decimal(0),
    }


def as_text(value: Any, column: Column) -> str:
    """A value of Parquet as CSV is to have it, worked out here in another way."""
    match value, column.kind:
        case None, _:
            return ""
        case bool(), _:
            return str(value).lower()
        case datetime(), _:
            return re.sub(r"(\.\d*?)0+Z$", r"\1Z", value.isoformat().replace("+00:00", "Z"))
        case Decimal(), _:
            return f"{value.normalize():f}"
        case _, Kind.TEXT:
            return defused(value)
    return str(value)


@pytest.mark.parametrize("kind", KINDS)
def test_csv_and_parquet_say_the_same(shared_scene: Scene, kind: ExportKind) -> None:
    columns = COLUMNS[kind]
    rows = 0
    for period in PERIODS:
        found, typed = (read(shared_scene.service.engine, kind, period) for read in (csv_rows, parquet_rows))
        expected = [{column.name: as_text(row[column.name], column) for column in columns} for row in typed]
        assert found == expected
        rows += len(found)
    assert rows > 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_cell_of_a_csv_file_begins_a_formula(shared_scene: Scene, kind: ExportKind) -> None:
    columns = {column.name: column for column in COLUMNS[kind]}
    hostile: set[str] = set()
    for period in PERIODS:
        for row in csv_rows(shared_scene.service.engine, kind, period):
            for name, cell in row.items():
                if columns[name].kind in (Kind.TEXT, Kind.JSON):
                    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
                    if cell.startswith("'"):
                        hostile.add(name)
    assert hostile >= HOSTILE_COLUMNS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_a_customer_has_only_its_rows_and_all_of_them(shared_scene: Scene, kind: ExportKind) -> None:
    engine, name = shared_scene.service.engine, "BillingAccountId" if kind is ExportKind.FOCUS else "customer_id"
    everything = parquet_rows(engine, kind)
    for customer_id in ("acme", "plain", "=1+1"):
        only = parquet_rows(engine, kind, customer_id=customer_id)
        assert only == [row for row in everything if row[name] == customer_id]
        assert only
    with pytest.raises(UnknownCustomerError, match="'nobody'"):
        content(engine, kind, "csv", customer_id="nobody")


@pytest.mark.parametrize("kind", KINDS)
def test_a_month_without_entries_is_a_header(shared_scene: Scene, kind: ExportKind) -> None:
    header = ",".join(column.name for column in COLUMNS[kind]) + "\r\n"
    assert content(shared_scene.service.engine, kind, "csv", "2025-01").decode() == header
    assert parquet_rows(shared_scene.service.engine, kind, "2025-01") == []


def test_what_is_booked_while_an_export_runs_is_not_in_it(scene: Scene) -> None:
    engine = scene.service.engine
    before = content(engine, "charges", "csv", "2026-12")
    running = export(engine, "charges", "csv", "2026-12")
    begun = running.next_chunk() or b""
    scene.use("new", LATER, booked=LATER + timedelta(hours=1))
    assert begun + b"".join(iter(running.next_chunk, None)) == before
    running.close()
    assert len(csv_rows(engine, "charges", "2026-12")) == len(read_csv(before)) + 1


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("charges", "UPDATE charges SET usd_cents = usd_cents + 0.001 WHERE stream_id = 's1'"),
        ("focus", "UPDATE charges SET lines = '[]' WHERE stream_id = 's1'"),
        ("focus", "UPDATE manual_adjustments SET usd_cents = -12 WHERE usd_cents = -12.25"),
        (
            "invoice-lines",
            "UPDATE invoice_lines SET usd_cents = usd_cents + 1 WHERE kind = 'credit'",
        ),
        (
            "invoice-lines",
            "UPDATE invoice_lines SET billed_cents = 1 WHERE kind = 'credit'",
        ),
    ],
)
def test_rows_that_do_not_sum_to_the_invoice_make_no_file(scene: Scene, kind: str, change: str) -> None:
    with psycopg.connect(scene.database.url) as connection:
        connection.execute(change.encode())
    with pytest.raises(UnequalExportError, match="2026-11 of customer 'acme'"):
        content(scene.service.engine, kind, "csv")


def test_an_interrupted_export_ends_at_once_and_gives_its_connection_back(shared_scene: Scene) -> None:
    engine = shared_scene.service.engine
    running = export(engine, "charges", "csv")
    assert running.next_chunk()
    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    running.interrupt()
    with pytest.raises(ExportStoppedError):
        running.next_chunk()
    running.close()
    running.close()
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_the_database_ends_an_export_that_takes_too_long(shared_scene: Scene) -> None:
    with pytest.raises(DatabaseUnavailableError, match="the export ended early: "):
        content(shared_scene.service.engine, "focus", "csv", within=timedelta(milliseconds=1))


def test_huge_amounts_are_exact_in_every_file(scene: Scene) -> None:
    scene.price("openai", "dear", "123456.789012345")
    most = 2**53
    scene.receive(
        [
            start("huge", time=LATER, provider="openai", model="dear", input_tokens=most),
            end("huge", time=LATER, usage=Usage(input_tokens=most, output_tokens=most)),
        ],
        at=LATER,
    )
    scene.finalize(now=LATER + timedelta(hours=1))
    # acme has 12.5 % off.
    cents = 2 * most * Fraction("123456.789012345") * Fraction("0.875") / 10_000
    engine = scene.service.engine
    for read in (csv_rows, parquet_rows):
        rows: list[dict[str, Any]] = read(engine, "charges", "2026-12")
        assert Fraction(one(rows, stream_id="huge")["cost_usd_cents"]) == cents
        focus: list[dict[str, Any]] = read(engine, "focus", "2026-12")
        huge = [row for row in focus if row["x_Model"] == "dear"]
        assert sum(Fraction(row["BilledCost"]) for row in huge) == cents / 100
        assert sum(Fraction(row["ListCost"]) for row in huge) == cents / 100 / Fraction("0.875")


def test_the_columns_of_charges_are_those_that_are_found() -> None:
    names = [column.name for column in COLUMNS[ExportKind.CHARGES]]
    found = ["cost_usd_cents" if name == "usd_cents" else name for name in ENTRY_COLUMNS]
    assert names[names.index("charge_id") :] == [*found[found.index("charge_id") :], "cost_usd"]


def test_the_docs_have_every_column_with_its_meaning() -> None:
    docs = DOCS.read_text()
    for columns in COLUMNS.values():
        table = [f"| `{column.name}` | {described(column)} | {column.meaning} |" for column in columns]
        assert "\n".join(table) in docs


def described(column: Column) -> str:
    return f"decimal, {column.scale}" if column.kind is Kind.NUMBER else column.kind.value
