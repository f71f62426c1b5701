"""Options and arguments that commands share."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import typer

from metering.core.errors import MeteringError
from metering.core.money import plain_decimal
from metering.serving.processes import MAX_PROCESSES

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Period = Annotated[str, typer.Option(help="The month, e.g. 2026-10.")]
OnlyCustomer = Annotated[str | None, typer.Option(help="Only this customer.")]
OnlyProvider = Annotated[str | None, typer.Option(help="Only this provider, as in the events.")]
Provider = Annotated[str, typer.Argument(help="The provider as in the events, e.g. anthropic.")]
ApiProcesses = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_PROCESSES,
        help="API processes that share the port: one for each core that is free. Default: METERING_API_PROCESSES.",
    ),
]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of rows.")]
EffectiveFrom = Annotated[
    datetime | None, typer.Option(help="Applies to streams that start from this time on, in UTC. Default: now.")
]


class InvalidNumberError(MeteringError):
    """An option or argument is not a number."""


def parse_decimal(name: str, text: str) -> Decimal:
    """The number in an option or argument.

    Raises:
        InvalidNumberError: it is not a number.
    """
    try:
        return plain_decimal(text)
    except ValueError as error:
        raise InvalidNumberError(f"{name}: {error}") from error


def utc_or(given: datetime | None, default: datetime) -> datetime:
    """The given time, which is in UTC, or the default."""
    return given.replace(tzinfo=UTC) if given else default


def time_text(at: datetime | None) -> str | None:
    """A time to the second, ISO 8601."""
    return at.isoformat(timespec="seconds") if at else None
