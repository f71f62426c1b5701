"""Prints the demo's report: one line per stream, the totals, the month's invoices, and every wrong figure."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metering.lab.demo.checks import Row
from metering.lab.demo.month import MonthReport
from metering.lab.demo.processes import CUSTOMER


def print_report(
    *, rows: Sequence[Row], totals: Sequence[dict[str, Any]], total: dict[str, Any], wrong: Sequence[str]
) -> None:
    """Print the streams and totals to the terminal."""
    problems = [f"{row.scene}: {problem}" for row in rows for problem in row.wrong]
    _print([_streams(rows), _totals(totals, total)], [*problems, *(f"totals: {problem}" for problem in wrong)])


def print_month(report: MonthReport) -> None:
    """Print the month's invoices and the drift that was found."""
    invoices = _table(
        f"Invoices of {report.period}",
        left=("number", "customer", "state"),
        right=("lines", "exact_usd_cents", "billed_cents", "remainder"),
    )
    invoices.add_column("at Stripe")
    for each in report.invoices:
        invoices.add_row(
            each["number"],
            each["customer_id"],
            each["state"],
            str(len(each["lines"])),
            each["exact_usd_cents"],
            str(each["billed_cents"]),
            each["remainder_usd_cents"],
            each["stripe_number"] or "",
        )
    drift = _table("Drift found", left=("customer", "class", "cents", "what", "repair"))
    for each in report.findings:
        drift.add_row(
            each["customer_id"],
            each["drift_class"],
            str(each["drift_cents"]),
            each["detail"],
            each["repair"] or "",
        )
    _print([invoices, drift], [f"month: {problem}" for problem in report.wrong])


def _print(tables: Sequence[Table], problems: Sequence[str]) -> None:
    console = Console(width=None if Console().is_terminal else 132)
    console.print()
    for table in tables:
        console.print(table)
        console.print()
    for problem in problems:
        console.print(f"[bold red]wrong[/] {problem}", highlight=False)


def _table(title: str, *, left: Sequence[str], right: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _streams(rows: Sequence[Row]) -> Table:
    table = _table(
        "Streams", left=("what happened", "model", "outcome", "state"), right=("input", "cached", "output")
    )
    table.add_column("usage source")
    table.add_column("cost_usd_cents", justify="right")
    table.add_column("checked")
    for row in rows:
        stream, usage = row.stream, row.stream["usage"]
        table.add_row(
            row.title,
            stream["model"],
            stream["outcome"],
            stream["state"],
            str(usage.get("input_tokens", "?")),
            str(usage.get("cache_read_input_tokens", "")),
            str(usage.get("output_tokens", "?")),
            stream["usage_source"],
            stream["cost_usd_cents"] or "not final",
            "[green]ok[/]" if not row.wrong else "[bold red]WRONG[/]",
        )
    return table


def _totals(totals: Sequence[dict[str, Any]], total: dict[str, Any]) -> Table:
    columns = ("streams", "input", "output", "cost_usd_cents")
    table = _table(f"Totals of {CUSTOMER}", left=("model", "outcome"), right=columns)
    for row in [*totals, {**total, "model": "all", "outcome": ""}]:
        table.add_row(
            row["model"],
            row["outcome"],
            str(row["stream_count"]),
            str(row["input_tokens"]),
            str(row["output_tokens"]),
            row["cost_usd_cents"],
            style="bold" if row["model"] == "all" else "",
        )
    return table
