"""The demo's report: one line a stream, the totals, and whatever is off."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metering.lab.demo.checks import Row
from metering.lab.demo.month import MonthReport


def print_report(
    *, rows: Sequence[Row], totals: Sequence[dict[str, Any]], total: dict[str, Any], wrong: Sequence[str]
) -> None:
    """Show all of it on the terminal."""
    console = Console(width=None if Console().is_terminal else 132)
    console.print()
    console.print(_streams(rows))
    console.print()
    console.print(_totals(totals, total))
    console.print()
    for row in rows:
        for problem in row.wrong:
            console.print(f"[bold red]off[/] {row.scene}: {problem}", highlight=False)
    for problem in wrong:
        console.print(f"[bold red]off[/] totals: {problem}", highlight=False)


def print_month(report: MonthReport) -> None:
    """Show how the month ended."""
    console = Console(width=None if Console().is_terminal else 132)
    console.print()
    invoices = Table(
        title=f"Invoices of {report.period}", title_justify="left", box=None, header_style="bold", pad_edge=False
    )
    for name in ("number", "customer", "state"):
        invoices.add_column(name)
    for name in ("lines", "exact_usd_cents", "billed_cents", "remainder"):
        invoices.add_column(name, justify="right")
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
    console.print(invoices)
    console.print()
    drift = Table(title="Drift found", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in ("customer", "class", "cents", "what", "repair"):
        drift.add_column(name)
    for each in report.findings:
        drift.add_row(
            each["customer_id"],
            each["drift_class"],
            str(each["drift_cents"]),
            each["detail"],
            each["repair"] or "",
        )
    console.print(drift)
    console.print()
    for problem in report.wrong:
        console.print(f"[bold red]off[/] month: {problem}", highlight=False)


def _streams(rows: Sequence[Row]) -> Table:
    table = Table(title="Streams", title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in ("what happened", "model", "outcome", "state"):
        table.add_column(name)
    for name in ("input", "cached", "output"):
        table.add_column(name, justify="right")
    table.add_column("counted by")
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
            "[green]ok[/]" if not row.wrong else "[bold red]OFF[/]",
        )
    return table


def _totals(totals: Sequence[dict[str, Any]], total: dict[str, Any]) -> Table:
    table = Table(title="Totals of acme", title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("model")
    table.add_column("outcome")
    for name in ("streams", "input", "output", "cost_usd_cents"):
        table.add_column(name, justify="right")
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
