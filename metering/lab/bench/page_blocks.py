"""Sections, tables and lists of numbers for docs/performance.md."""

from collections.abc import Iterable, Sequence

from metering.lab.bench.machine import Machine


def section(title: str, machine: Machine, *blocks: str) -> list[str]:
    measured = (
        f"`{machine.command}`, {machine.measured_at:%Y-%m-%d}, revision {machine.revision}: "
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib} GiB, {machine.system}, "
        f"Python {machine.python}, PostgreSQL {machine.postgres}; "
        f"fdatasync takes {machine.fdatasync_microseconds} us."
    )
    return [line for block in (f"## {title}", measured, *blocks) for line in (block, "")]


def markdown_table(head: str, rows: Iterable[str], *, texts: int = 1) -> str:
    """A table whose first `texts` columns are text; `head` and `rows` are cells between bars."""
    marks = ["---"] * texts + ["--:"] * (head.count("|") + 1 - texts)
    return "\n".join([f"| {head} |", f"|{'|'.join(marks)}|", *(f"| {row} |" for row in rows)])


def numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)
