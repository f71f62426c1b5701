"""`metering-emitter`: send what a gateway's spool has kept again. It needs only the base install."""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path

from metering.core.errors import MeteringError
from metering.emitter.resend import Kept, find_kept, resend

_INTERRUPTED = 130
_KEYS = ("METERING_INGEST_KEY", "METERING_GATEWAY_INGEST_KEY")


def main() -> None:
    """Run the command. Exit code 1: an event was not accepted, or something else went wrong; 130: Ctrl-C."""
    options = _options()
    key = next((os.environ[name] for name in _KEYS if os.environ.get(name)), None)
    try:
        kept = find_kept(spool=options.spool, since=options.since)
        _tell_what_is_kept(kept, options.since)
        if options.dry_run:
            return
        if key is None:
            sys.exit(f"metering-emitter: set {_KEYS[0]} to a key with the role ingest")
        total = len(kept.files)
        resent = resend(
            files=kept.files,
            url=options.url,
            key=key,
            patience=options.patience,
            progress=lambda done: _show_progress(done, total),
            tell=_tell,
        )
    except MeteringError as error:
        sys.exit(f"metering-emitter: {error}")
    except KeyboardInterrupt:
        _tell("metering-emitter: stopped; nothing is lost or doubled by running it again")
        sys.exit(_INTERRUPTED)
    _tell(f"{resent.accepted} events accepted, {resent.rejected} rejected, {resent.unreadable} files unreadable")
    if resent.rejected or resent.unreadable:
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="metering-emitter", description="Tools for the spool of an emitter.")
    command = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "resend",
        help="send acknowledged events again",
        description="Send events again that the server had acknowledged, after it was restored from a backup."
        f" Sending an event twice is harmless. The key is read from {_KEYS[0]}, or from {_KEYS[1]}.",
    )
    command.add_argument(
        "--since",
        type=_moment,
        help="only what was acknowledged from this time on, e.g. 2026-11-29T08:00:00Z",
    )
    command.add_argument(
        "--spool",
        type=Path,
        required="METERING_GATEWAY_SPOOL" not in os.environ,
        default=os.environ.get("METERING_GATEWAY_SPOOL"),
        help="the spool of the gateway; default: METERING_GATEWAY_SPOOL",
    )
    command.add_argument(
        "--url",
        default=os.environ.get("METERING_GATEWAY_URL", "http://127.0.0.1:8000"),
        help="the root of the API; default: METERING_GATEWAY_URL, or http://127.0.0.1:8000",
    )
    command.add_argument(
        "--patience",
        type=float,
        default=600.0,
        help="seconds to wait for a silent server; default: 600",
    )
    command.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    return parser.parse_args()


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no offset")
    return at


_moment.__name__ = "time with an offset"  # argparse names it in its error


def _tell_what_is_kept(kept: Kept, since: datetime | None) -> None:
    size = sum(file.size for file in kept.files)
    _tell(f"{len(kept.files)} files to send, {size} bytes")
    if kept.kept_since is None:
        _tell("the spool has kept no acknowledged events: does the gateway keep them?")
    elif since is not None and since < kept.kept_since:
        _tell(f"the oldest were acknowledged at {kept.kept_since.isoformat()}: nothing from before is here")


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 10 == 0 or done == total):
        print(f"\r{done} of {total} files", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
