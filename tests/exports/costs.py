"""What costs and unit prices of FOCUS rows have to do with each other."""

import re
from typing import Any

Row = dict[str, Any]

UNITS = ("Tokens", "Requests", "Seconds", "Characters", "Pages", "Messages", "Searches", "Completions")
UNIT = re.compile(rf"([1-9]\d* )?({'|'.join(UNITS)})")


def priced(row: Row) -> bool:
    return row["PricingQuantity"] is not None


def check_costs(rows: list[Row]) -> None:
    for row in rows:
        if priced(row):
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
