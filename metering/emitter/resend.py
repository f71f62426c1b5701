"""Send acknowledged events again, to a server that was restored from a backup. Sending twice is harmless."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from metering.core.errors import MeteringError
from metering.emitter.delivery import Backoff, Delivery, Verdict
from metering.emitter.sent import SentFile, read_sent, sent_files

_SLOW_RETRY_SECONDS = 30.0


class ResendError(MeteringError):
    """The events cannot be sent again; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The files to send, and since when the spool has kept events; None if it has none."""

    files: Sequence[SentFile]
    kept_since: datetime | None


@dataclass(slots=True, kw_only=True)
class Resent:
    """The number of events by the server's answer; `unreadable` files were skipped."""

    accepted: int = 0
    rejected: int = 0
    unreadable: int = 0


def find_kept(*, spool: Path, since: datetime | None) -> Kept:
    """What was acknowledged at `since` or later, by the gateway's clock; without it, all that is kept.

    Raises:
        ResendError: the spool does not exist.
    """
    if not spool.is_dir():
        raise ResendError(f"{spool} is no spool: name the folder that the gateway uses")
    found = sent_files(spool)
    from_ = since.timestamp() if since else 0.0
    return Kept(
        files=[file for file in found if file.acknowledged_at >= from_],
        kept_since=datetime.fromtimestamp(found[0].acknowledged_at, UTC) if found else None,
    )


def resend(
    *,
    files: Sequence[SentFile],
    url: str,
    key: str,
    patience: float,
    progress: Callable[[int], None],
    tell: Callable[[str], None],
    timeout: float = 10.0,
) -> Resent:
    """Post the files, oldest first; `progress` is called with how many are done, `tell` with each problem.

    A server that does not answer is asked again for `patience` seconds.

    Raises:
        ResendError: the server did not answer for that long, or refuses the key.
    """
    done = Resent()
    delivery = Delivery(url=url, key=key, timeout=timeout)
    try:
        for number, file in enumerate(files, 1):
            lines = _lines(file, done, tell)
            if lines:
                verdict = _post(delivery, lines, patience=patience, tell=tell)
                done.rejected += len(verdict.rejected)
                done.accepted += len(lines) - len(verdict.rejected)
                for index, reason in verdict.rejected.items():
                    tell(f"rejected: {reason}: {lines[index][:200].decode(errors='replace')}")
            progress(number)
    finally:
        delivery.close()
    return done


def _lines(file: SentFile, done: Resent, tell: Callable[[str], None]) -> list[bytes] | None:
    try:
        return read_sent(file)
    except (OSError, EOFError) as error:
        done.unreadable += 1
        tell(f"{file.path} cannot be read and is skipped: {error}")
        return None


def _post(delivery: Delivery, lines: Sequence[bytes], *, patience: float, tell: Callable[[str], None]) -> Verdict:
    deadline = time.monotonic() + patience
    backoff = Backoff(slow=_SLOW_RETRY_SECONDS)
    while True:
        verdict = delivery.post(lines)
        if verdict.done:
            return verdict
        if verdict.misconfigured or time.monotonic() >= deadline:
            raise ResendError(f"{verdict.problem}; run it again when that is repaired")
        tell(verdict.problem)
        backoff.wait(retry_after=verdict.retry_after, misconfigured=False, deadline=lambda: None)
