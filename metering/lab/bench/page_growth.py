"""The section of docs/performance.md about growth: the same work at each size, and how much of its cost grew."""

from metering.lab.bench.growth import Grown, GrowthReport
from metering.lab.bench.page_blocks import markdown_table, section


def growth_section(report: GrowthReport) -> list[str]:
    """Each work is a row, each size a column. The last column compares the largest with the first."""
    first, last = report.sizes[0], report.sizes[-1]
    head = " | ".join(["charges", "unit", *(f"{size.charges:,}" for size in report.sizes), "last : first"])
    rows = [
        _row("on disk, with indexes", "MB", [size.database_megabytes for size in report.sizes]),
        _row("of it charges", "MB", [size.charges_megabytes for size in report.sizes]),
        _row("of it totals", "MB", [size.totals_megabytes for size in report.sizes]),
    ]
    for place, work in enumerate(first.works):
        rows.append(_row(work.what, work.unit, [size.works[place].measured for size in report.sizes]))
    times = last.charges / first.charges
    note = (
        f"Ten months of charges of {report.customers:,} customers, each month a tenth, with their streams archived"
        f" and the months before the last one closed. From the first size to the last, charges grow {times:,.0f}"
        " times: work on one month grows as much, because the month does, and its rate should not fall."
    )
    return section("Growth", report.machine, note, markdown_table(head, rows, texts=2), _disk(last))


def _row(what: str, unit: str, measured: list[float]) -> str:
    digits = 0 if max(measured) >= 100 else 1
    found = " | ".join(f"{value:,.{digits}f}" for value in measured)
    return f"{what} | {unit} | {found} | {measured[-1] / measured[0]:,.2f}"


def _disk(size: Grown) -> str:
    charged = size.charges_megabytes * 1e6 / size.charges
    return f"A charge takes {charged:,.0f} bytes with its indexes at {size.charges:,} charges."
