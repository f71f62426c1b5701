"""Prints the demo's report: streams, totals, the month's invoices, and every wrong figure; or all as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metering.lab.demo.checks import Row
from metering.lab.demo.month import MonthReport
from metering.lab.demo.processes import CUSTOMER
from metering.server.terminal.columns import colour_of, dollars_or_none
from metering.server.terminal.output import coloured, print_json, show, terminal_width, title

# The words of the tables that a newcomer does not know.
_STREAM_WORDS = (
    "finalized: the cost is booked. unpriced: it waits for a rate.",
    "Who counted the tokens: the upstream (provider), a tokenizer (gateway_count), or neither (estimate).",
)
_INVOICE_WORDS = (
    "An invoice bills whole cents and carries the rest to the next one. deferred: it carries all of it.",
)
_DRIFT_WORDS = ("Drift: where Stripe's invoices differ from these.",)
# On a terminal that is narrower, a stream takes two lines, so that everything is shown.
_WIDE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """The checked streams, their totals by model and outcome and in all, and what is wrong with those."""

    rows: Sequence[Row]
    totals: Sequence[Mapping[str, Any]]
    total: Mapping[str, Any]
    wrong: Sequence[str]

    @property
    def problems(self) -> list[str]:
        """Every wrong figure, with its scene."""
        problems = [f"{row.scene}: {problem}" for row in self.rows for problem in row.wrong]
        return [*problems, *(f"totals: {problem}" for problem in self.wrong)]


def print_streams(report: StreamReport) -> None:
    """Print the streams and totals to the terminal."""
    title("Streams")
    rows = [_stream(row) for row in report.rows]
    width = terminal_width()
    if width is None or width >= _WIDE:
        show(rows, as_json=False, empty="")
    else:
        _print_pairs(rows, width)
    _explain(_STREAM_WORDS)
    title(f"Totals of {CUSTOMER}")
    show(
        [_total(row) for row in [*report.totals, {**report.total, "model": "all", "outcome": ""}]],
        as_json=False,
        empty="",
        important=("model", "outcome", "cost_usd_cents"),
    )
    _print_problems(report.problems)


def print_month(report: MonthReport) -> None:
    """Print the month's invoices and the drift that was found."""
    title(f"Invoices of {report.period}, of a month that is closed early for this demo")
    show(
        [_invoice(each) for each in report.invoices],
        as_json=False,
        empty="",
        important=("customer_id", "state", "usd_cents", "carried_in_usd_cents", "billed_cents"),
    )
    _explain(_INVOICE_WORDS)
    title("Drift found and repaired")
    show(
        # Reconciling before the repair found the same.
        [_finding(each) for each in report.findings if each["repair"]],
        as_json=False,
        empty="",
        important=("customer_id", "class", "drift_cents"),
    )
    _explain(_DRIFT_WORDS)
    _print_problems([f"month: {problem}" for problem in report.wrong])


def print_all_as_json(
    *, right: bool, seconds: float, streams: StreamReport, month: MonthReport, keep: Any
) -> None:
    """Print everything as one JSON object. `keep` are the addresses of what runs on, or None."""
    print_json(
        {
            "right": right,
            "seconds": round(seconds, 1),
            "streams": [{**_stream(row), "stream_id": row.stream["stream_id"]} for row in streams.rows],
            "totals": [_total(row) for row in streams.totals],
            "period": month.period,
            "invoices": [_invoice(each) for each in month.invoices],
            "drift": [_finding(each) for each in month.findings],
            "wrong": [*streams.problems, *month.wrong],
            "running": keep,
        }
    )


def _print_pairs(rows: Sequence[Mapping[str, Any]], width: int) -> None:
    """Two lines a stream: what happened and its cost; then the facts."""
    for row in rows:
        cost = dollars_or_none(row["cost_usd_cents"]) or "not final"
        checked = coloured(row["checked"], colour_of(row["checked"]))
        gap = " " * max(width - len(row["what_happened"]) - len(cost) - len(row["checked"]) - 2, 2)
        print(f"{row['what_happened']}{gap}{cost}  {checked}")
        cached = f", {row['cache_read_input_tokens']} cached" if row["cache_read_input_tokens"] else ""
        tokens = f"{row['input_tokens']} in{cached}, {row['output_tokens']} out"
        print(f"  {row['model']}, {row['outcome']}, {row['state']}, {tokens}, {row['usage_source']}")


def _explain(lines: Sequence[str]) -> None:
    print(*lines, sep="\n")


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"{coloured('wrong', colour_of('WRONG'))} {problem}")


def _stream(row: Row) -> dict[str, Any]:
    stream, usage = row.stream, row.stream["usage"]
    return {
        "what_happened": row.title,
        "model": stream["model"],
        "outcome": stream["outcome"],
        "state": stream["state"],
        "input_tokens": usage.get("input_tokens"),
        "cache_read_input_tokens": usage.get("cache_read_input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "usage_source": stream["usage_source"],
        "cost_usd_cents": stream["cost_usd_cents"],
        "checked": "WRONG" if row.wrong else "ok",
    }


def _total(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model", "outcome", "stream_count", "input_tokens", "output_tokens", "cost_usd_cents")
    return {name: row[name] for name in names}


def _invoice(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": each["number"],
        "customer_id": each["customer_id"],
        "state": each["state"],
        "lines": len(each["lines"]),
        "usd_cents": each["exact_usd_cents"],
        "carried_in_usd_cents": each["carried_in_usd_cents"],
        "billed_cents": each["billed_cents"],
        "remainder_usd_cents": each["remainder_usd_cents"],
        "stripe_number": each["stripe_number"],
    }


def _finding(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "customer_id": each["customer_id"],
        "class": each["drift_class"],
        "drift_cents": each["drift_cents"],
        "detail": each["detail"],
        "repair": each["repair"],
    }
