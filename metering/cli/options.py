"""Options that commands share."""

from datetime import UTC, datetime
from typing import Annotated

import typer

EffectiveFrom = Annotated[
    datetime | None, typer.Option(help="For streams that start from then on, in UTC. Default: now.")
]


def utc_or(moment: datetime | None, now: datetime) -> datetime:
    """What was given, which is UTC, or now."""
    return moment.replace(tzinfo=UTC) if moment else now
