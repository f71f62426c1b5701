"""`metering verify`: redo a receipt offline, from its events to its cost."""

from pathlib import Path
from typing import Annotated

import typer

from metering.audit.receipt_document import UnreadableReceiptError, verify_document
from metering.cli.output import AsJson, fail, show


def verify_command(
    receipt: Annotated[Path, typer.Argument(help="A receipt, from GET /v1/streams/…/receipt.", dir_okay=False)],
    as_json: AsJson = False,
) -> None:
    """Recompute a receipt without a database: its usage, its lines, its sums. Exits 2 when something disagrees."""
    try:
        document = receipt.read_bytes()
    except OSError as error:
        raise UnreadableReceiptError(f"{receipt}: {error.strerror}") from error
    checks = verify_document(document)
    show([{"check": check.name, "fault": check.fault or "ok"} for check in checks], as_json=as_json, empty="")
    if any(check.fault for check in checks):
        fail("the receipt does not follow from what it says")
        raise typer.Exit(2)
