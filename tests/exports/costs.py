"""What costs and unit prices of FOCUS rows have to do with each other."""

import re
from decimal import Decimal
from typing import Any

Row = dict[str, Any]

UNITS = ("Tokens", "Requests", "Seconds", "Characters", "Pages", "Messages", "Searches", "Completions")
UNIT = re.compile(rf"([1-9]\d* )?({'|'.join(UNITS)})")
TIME_ROUNDED_AT = Decimal("1e-12")


def priced(row: Row) -> bool:
    return row["PricingQuantity"] is not None


def check_costs(rows: list[Row]) -> None:
    for row in rows:
        if priced(row) and row["PricingUnit"] == "Hours":
            check_hours(row)
        elif priced(row):
            assert (
                row["ContractedUnitPrice"] * row["PricingQuantity"] == row["ContractedCost"] == row["BilledCost"]
            )
            assert row["ListUnitPrice"] * row["PricingQuantity"] == row["ListCost"]
            assert min(row["ListUnitPrice"], row["ContractedUnitPrice"]) >= 0
            quantity, _, unit = row["PricingUnit"].partition(" ")
            assert row["PricingQuantity"] * int(quantity) == row["ConsumedQuantity"]
            assert unit == row["ConsumedUnit"]
            assert UNIT.fullmatch(row["PricingUnit"])
        else:
            assert row["ListCost"] == row["ContractedCost"] == row["BilledCost"]
        assert row["EffectiveCost"] == row["BilledCost"]


def check_hours(row: Row) -> None:
    """A third of an hour has no last digit: hours, and the amount of each charge, are rounded."""
    assert row["ConsumedUnit"] == "Seconds"
    assert row["ContractedCost"] == row["BilledCost"]
    assert abs(row["PricingQuantity"] * 3600 - row["ConsumedQuantity"]) <= 3600 * TIME_ROUNDED_AT
    bound = TIME_ROUNDED_AT * 100  # lines in a row
    for price, cost in (("ContractedUnitPrice", "ContractedCost"), ("ListUnitPrice", "ListCost")):
        assert abs(row[price] * row["PricingQuantity"] - row[cost]) <= bound * max(row[price], 1), row
