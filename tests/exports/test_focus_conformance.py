"""A FOCUS export against the specification: FOCUS 1.2's requirements of Cost and Usage, written down as a table.

From https://focus.finops.org/focus-specification/v1-2/ and its requirements model (1.2.0.1); HostProviderName and
ServiceProviderName from 1.3, InvoiceDetailId from 1.4.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from metering.exports.focus_columns import FOCUS_COLUMNS
from metering.prices.set_terms import set_markup
from metering.server.bootstrap import Service
from tests.database import Database
from tests.exports.costs import UNITS, check_costs, priced
from tests.exports.files import csv_rows, parquet_rows
from tests.exports.scene import LATER, ZONE, Scene
from tests.months.random_months import RandomMonths

Row = dict[str, Any]


def always(_: Row) -> bool:
    return True


def never(_: Row) -> bool:
    return False


def used(row: Row) -> bool:
    """Usage, and no correction of what was invoiced before."""
    return bool(row["ChargeCategory"] == "Usage" and row["ChargeClass"] is None)


def of_usage(row: Row) -> bool:
    return bool(row["ChargeCategory"] == "Usage")


def consumed(row: Row) -> bool:
    return row["ConsumedQuantity"] is not None


def invoiced(row: Row) -> bool:
    return row["InvoiceId"] is not None


@dataclass(frozen=True)
class Rule:
    """A column that has to be there: its type, when it must not be null, when it may be something, its values."""

    type: str
    required: Callable[[Row], bool] = always
    allowed: Callable[[Row], bool] = always
    values: frozenset[str] = field(default=frozenset())


def one_of(*values: str) -> frozenset[str]:
    return frozenset(values)


# Column: type, "MUST NOT be null when", "MUST be null unless", allowed values. Those of constructs that are not
# sold here (commitments, capacity, regions, resources, sub accounts, other currencies) are conditional, and not
# there.
FOCUS = {
    "BilledCost": Rule("Decimal"),
    "BillingAccountId": Rule("String"),
    "BillingAccountName": Rule("String"),
    "BillingCurrency": Rule("String", values=one_of("USD")),
    "BillingPeriodEnd": Rule("Date/Time"),
    "BillingPeriodStart": Rule("Date/Time"),
    "ChargeCategory": Rule("String", values=one_of("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    "ChargeClass": Rule("String", required=never, values=one_of("Correction")),
    "ChargeDescription": Rule("String"),
    "ChargeFrequency": Rule("String", values=one_of("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": Rule("Date/Time"),
    "ChargePeriodStart": Rule("Date/Time"),
    "ConsumedQuantity": Rule("Decimal", required=used, allowed=of_usage),
    "ConsumedUnit": Rule("String", required=consumed, allowed=consumed, values=one_of(*UNITS)),
    "ContractedCost": Rule("Decimal"),
    "ContractedUnitPrice": Rule("Decimal", required=used),
    "EffectiveCost": Rule("Decimal"),
    "HostProviderName": Rule("String"),
    "InvoiceDetailId": Rule("String", required=invoiced, allowed=invoiced),
    "InvoiceId": Rule("String", required=never),
    "InvoiceIssuerName": Rule("String"),
    "ListCost": Rule("Decimal"),
    "ListUnitPrice": Rule("Decimal", required=used),
    "PricingCategory": Rule("String", required=used, values=one_of("Standard", "Committed", "Dynamic", "Other")),
    "PricingQuantity": Rule("Decimal", required=used),
    "PricingUnit": Rule("String", required=priced, allowed=priced),
    "ProviderName": Rule("String"),
    "PublisherName": Rule("String"),
    "ServiceCategory": Rule("String", values=one_of("AI and Machine Learning")),
    "ServiceName": Rule("String"),
    "ServiceProviderName": Rule("String"),
    "ServiceSubcategory": Rule("String", values=one_of("Generative AI")),
    "SkuId": Rule("String", required=used),
    "SkuMeter": Rule("String", required=lambda row: row["SkuId"] is not None, allowed=lambda row: row["SkuId"]),
    "SkuPriceDetails": Rule("JSON", required=never, allowed=lambda row: row["SkuPriceId"]),
    "SkuPriceId": Rule("String", required=used),
    "Tags": Rule("JSON", required=never),
}
NUMERIC = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def rows(shared_scene: Scene) -> list[Row]:
    """A closed month and an open one, with a row of everything."""
    engine = shared_scene.service.engine
    found = [*parquet_rows(engine, "focus", "2026-11"), *parquet_rows(engine, "focus", "2026-12")]
    kinds = {row["x_LineKind"] for row in found}
    assert kinds == {"usage", "late_usage", "adjustment", "credit", "correction", "remainder"}
    assert {row["ChargeClass"] for row in found} == {None, "Correction"}
    assert {invoiced(row) for row in found} == {True, False}
    return found


def test_the_columns_are_focus_columns_by_name_and_then_ours() -> None:
    names = [column.name for column in FOCUS_COLUMNS]
    ours = [name for name in names if name.startswith("x_")]
    assert names == [*sorted(FOCUS), *sorted(ours)]
    for name in names:
        assert re.fullmatch(r"(x_)?([A-Z][a-z]+)+", name), "Pascal case"
        assert len(name) <= 50


def test_a_column_has_its_type_is_null_when_it_must_and_holds_allowed_values(rows: list[Row]) -> None:
    for column in FOCUS:
        check_column(rows, column)


def test_random_months_conform_in_every_column(months: RandomMonths) -> None:
    found = parquet_rows(months.books.service.engine, "focus", "2025-12")
    assert {"carried_in", "remainder", "adjustment"} <= {row["x_LineKind"] for row in found}
    for column in FOCUS:
        check_column(found, column)
    check_costs(found)


def check_column(rows: list[Row], column: str) -> None:
    rule = FOCUS[column]
    for row in rows:
        value = row[column]
        if value is None:
            assert not rule.required(row), (column, row)
            continue
        assert rule.allowed(row), (column, row)
        assert not rule.values or value in rule.values
        match rule.type:
            case "Decimal":
                assert isinstance(value, Decimal)
                assert value.is_finite()
            case "Date/Time":
                assert value.utcoffset() == timedelta(0)
            case "JSON":
                pairs = json.loads(value)
                assert all(isinstance(each, str | int | float | bool | None) for each in pairs.values())
            case _:
                assert value.strip()


def test_costs_are_unit_prices_times_quantities_exactly(rows: list[Row]) -> None:
    check_costs(rows)


def test_an_sku_price_has_one_sku_and_one_list_price(rows: list[Row]) -> None:
    skus, prices = defaultdict(set), defaultdict(set)
    for row in filter(priced, rows):
        skus[row["SkuPriceId"]].add((row["SkuId"], row["SkuMeter"], row["SkuPriceDetails"]))
        prices[row["SkuPriceId"]].add(row["ListUnitPrice"])
    assert len(skus) > 2
    assert all(len(found) == 1 for found in (*skus.values(), *prices.values()))


def test_periods_are_half_open_and_a_day_is_the_customers(rows: list[Row]) -> None:
    zones = {"acme": ZoneInfo(ZONE), "plain": ZoneInfo("UTC"), "=1+1": ZoneInfo("UTC")}
    for row in rows:
        assert row["BillingPeriodStart"] < row["BillingPeriodEnd"]
        starts, ends = (row[name].astimezone(zones[row["BillingAccountId"]]) for name in
                        ("ChargePeriodStart", "ChargePeriodEnd"))  # fmt: skip
        assert starts < ends
        if row["x_LineKind"] == "remainder":
            assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
                row["BillingPeriodStart"],
                row["BillingPeriodEnd"],
            )
        else:
            assert starts.time() == ends.time() == datetime.min.time()
            assert ends.date() - starts.date() == timedelta(days=1)
    # Half past three in the night of the 13th, UTC, is the 12th in New York.
    first = next(row for row in rows if row["x_ApiKeyId"] == "@key")
    assert first["ChargePeriodStart"] == datetime(2026, 11, 12, 5, tzinfo=UTC)


def test_corrections_are_of_months_that_were_invoiced_before(rows: list[Row]) -> None:
    corrections = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert {row["x_LineKind"] for row in corrections} == {"adjustment", "correction"}
    for row in corrections:
        assert row["ChargePeriodStart"] < row["BillingPeriodStart"]
    assert sum(row["BilledCost"] for row in corrections if row["x_LineKind"] == "adjustment") != 0


def test_streams_of_a_day_at_one_price_are_one_row_unless_their_dimensions_differ(scene: Scene) -> None:
    at = datetime(2026, 12, 5, 12, tzinfo=UTC)
    for number, (hours, changes) in enumerate(
        [
            (0, {}),
            (1, {}),
            (24, {}),
            (0, {"tags": {"team": "a"}}),
            (1, {"tags": {"team": "a"}}),
            (0, {"api_key_id": "k"}),
            (0, {"model": "claude-opus-4-7"}),
        ]
    ):
        scene.use(f"d{number}", at + timedelta(hours=hours), booked=LATER, customer_id="plain", **changes)
    found = parquet_rows(scene.service.engine, "focus", "2026-12", customer_id="plain")
    rows = [row for row in found if row["x_LineKind"] == "usage" and row["x_UsageKind"] == "output"]
    counted = {
        (row["ChargePeriodStart"].day, row["Tags"], row["x_ApiKeyId"], row["x_Model"]): (
            row["x_StreamCount"],
            row["ConsumedQuantity"],
        )
        for row in rows
    }
    model = "claude-opus-4.7"
    assert counted == {
        (5, None, None, model): (2, 74),
        (6, None, None, model): (1, 37),
        (5, '{"team":"a"}', None, model): (2, 74),
        (5, None, "k", model): (1, 37),
        (5, None, None, "claude-opus-4-7"): (1, 37),
    }
    assert len(rows) == len(counted)


def test_csv_has_numbers_and_moments_as_the_specification_writes_them(shared_scene: Scene) -> None:
    for period in ("2026-11", "2026-12"):
        for row in csv_rows(shared_scene.service.engine, "focus", period):
            for name, rule in FOCUS.items():
                if rule.type == "Decimal":
                    assert row[name] == "" or NUMERIC.fullmatch(row[name])
                elif rule.type == "Date/Time":
                    assert MOMENT.fullmatch(row[name])


@pytest.mark.parametrize(
    ("percent", "list_price", "contracted"),
    [("25", "25", "31.25"), ("-100", "25", "0"), ("0.003", "25", "25.00075")],
)
def test_the_list_price_is_the_rate_cards_whatever_the_markup(
    rated_database: Database, rated_service: Service, percent: str, list_price: str, contracted: str
) -> None:
    scene = Scene(rated_database, rated_service)
    scene.customer("acme")
    set_markup(
        engine=rated_service.engine,
        customer_id="acme",
        percent=Decimal(percent),
        effective_from=datetime(2026, 11, 1, tzinfo=UTC),
        set_by="test",
        now=datetime(2026, 10, 1, tzinfo=UTC),
    )
    scene.use("s", datetime(2026, 11, 12, tzinfo=UTC), booked=datetime(2026, 11, 20, tzinfo=UTC))
    (row,) = (row for row in parquet_rows(rated_service.engine, "focus") if row["x_UsageKind"] == "output")
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == (Decimal(list_price), Decimal(contracted))
    check_costs([row])
