"""CSV files that Excel opens by a double-click, and dollars beside cents."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from metering.core.period import BillingPeriod
from metering.exports.export_month import ExportFormat, ExportKind, ExportRequest, NotForExcelError
from tests.command_line import CommandLine
from tests.exports.files import content, read_csv
from tests.exports.scene import Scene

MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("kind", list(ExportKind))
def test_it_has_the_mark_plain_times_and_else_the_same_cells(
    shared_scene: Scene, tmp_path: Path, kind: ExportKind
) -> None:
    metering = CommandLine(shared_scene.database, METERING_ISSUER_NAME="Gateway Inc.")
    out = tmp_path / "excel.csv"
    metering("export", kind.value, "--period", "2026-11", "--excel", "--out", str(out))
    written = out.read_bytes()
    assert written.startswith(MARK)
    plain = read_csv(content(shared_scene.service.engine, kind.value, "csv"))
    for row, expected in zip(read_csv(written.removeprefix(MARK)), plain, strict=True):
        for name, cell in row.items():
            if cell != expected[name]:
                assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", cell), name
                assert expected[name].startswith(cell.replace(" ", "T"))


def test_dollars_are_the_cents_exactly(shared_scene: Scene) -> None:
    engine = shared_scene.service.engine
    charges = read_csv(content(engine, "charges", "csv"))
    assert charges
    for row in charges:
        assert Decimal(row["cost_usd"]) * 100 == Decimal(row["cost_usd_cents"])
    lines = read_csv(content(engine, "invoice-lines", "csv"))
    assert lines
    for row in lines:
        for dollars, cents in (
            ("exact_usd", "exact_usd_cents"),
            ("billed_usd", "billed_cents"),
            ("invoice_billed_usd", "invoice_billed_cents"),
        ):
            assert Decimal(row[dollars]) * 100 == Decimal(row[cents])


def test_only_csv_has_a_variant_for_excel(shared_scene: Scene, tmp_path: Path) -> None:
    month = BillingPeriod.parse("2026-11")
    with pytest.raises(NotForExcelError):
        ExportRequest(kind=ExportKind.FOCUS, format=ExportFormat.PARQUET, period=month, excel=True)
    out = ("--format", "parquet", "--out", str(tmp_path / "x.parquet"))
    refused = CommandLine(shared_scene.database)(
        "export", "focus", "--period", "2026-11", "--excel", *out, exits=1
    )
    assert "excel: only for csv" in refused.stderr


def test_its_name_says_so() -> None:
    month = BillingPeriod.parse("2026-11")
    wanted = ExportRequest(
        kind=ExportKind.CHARGES, format=ExportFormat.CSV, period=month, customer_id="a/b", excel=True
    )
    assert wanted.file_name == "charges-2026-11-a_b-excel.csv"
    long = ExportRequest(kind=ExportKind.CHARGES, format=ExportFormat.CSV, period=month, customer_id="c" * 128)
    assert len(long.file_name) < 100
