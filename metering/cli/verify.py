"""`metering verify`: recompute a stream's cost from its receipt alone."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from metering.audit.receipt import Check
from metering.audit.receipt_document import UnreadableReceiptError, verify_document
from metering.cli.options import AsJson
from metering.server.terminal.output import fail, show


def verify_command(
    receipt: Annotated[
        str,
        typer.Argument(
            metavar="RECEIPT|ARCHIVE|CUSTOMER",
            help="A receipt file, the folder of an archive, or the customer of a stream.",
        ),
    ],
    stream_id: Annotated[
        str | None, typer.Argument(metavar="[STREAM]", help="The stream's ID, whose receipt is made now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a receipt's usage, lines and sums, or an archive's streams from its events.

    An archive (from `metering archive write`) and a receipt file (from `metering streams receipt`, or
    GET /v1/streams/…/receipt) need no database. With a customer and a stream, the receipt is made from the
    database first. Exit code 2: a check fails.
    """
    if stream_id is None and Path(receipt).is_dir():
        checks = _archive(Path(receipt))
    else:
        checks = verify_document(_read(Path(receipt)) if stream_id is None else _made(receipt, stream_id))
    rows = [
        {"check": check.name, "result": "failed" if check.fault else "ok", "fault": check.fault}
        for check in checks
    ]
    if as_json:
        # `fault` said "ok" before there was a result; scripts compare it.
        rows = [{**row, "fault": row["fault"] or "ok"} for row in rows]
    show(rows, as_json=as_json, empty="")
    if any(check.fault for check in checks):
        fail("it is not consistent: see the checks above")
        raise typer.Exit(2)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnreadableReceiptError(
            f"{file}: {error.strerror}; for a stream, give its customer and its ID"
        ) from error


def _archive(folder: Path) -> list[Check]:
    found: list[Check] = import_module("metering.audit.verify_archive").verify_archive(folder)
    return found


def _made(customer_id: str, stream_id: str) -> bytes:
    # Most receipts are checked where no database is: its packages are imported only here.
    found: bytes = import_module("metering.cli.receipts").receipt_of(customer_id, stream_id)
    return found
