"""An export as a download: sent while it is read, in bounded memory and time, and never whole when it is not.

Whoever signs the client in calls `stream_export`. What fails before the first byte is answered as any failure.
After that only the end of the chunked answer says that a file is whole: it is left out, and the connection closed.
"""

import logging
from datetime import timedelta
from threading import BoundedSemaphore
from time import monotonic

import anyio
from prometheus_client import Counter
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.exports.export_month import ExportFormat, ExportRequest, ExportStoppedError, MonthExport

log = logging.getLogger(__name__)

EXPORTS = Counter(
    "metering_exports",
    "Exports over HTTP, by how they ended: whole, left (by the client), timed_out, stalled or failed",
    ["kind", "format", "result"],
)

# Each holds a connection and a snapshot for as long as it runs; the process's other requests need some, too.
_AT_ONCE = 3
# A client that takes nothing for so long does not want the rest.
_STALL_SECONDS = 60.0
_MEDIA_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}
_slots = BoundedSemaphore(_AT_ONCE)


class TooManyExportsError(MeteringError):
    """This process sends as many exports as it may at once."""


class ChunksUnsupportedError(MeteringError):
    """A client, or a proxy, that could not tell a broken export from a whole one."""


def stream_export(*, engine: Engine, request: ExportRequest, issuer: str, within: timedelta) -> Response:
    """The answer that sends this export. Who may have it has been checked.

    Raises, when it is sent:
        TooManyExportsError: others are under way.
        ChunksUnsupportedError: it was asked for by HTTP/1.0.
        UnknownCustomerError: nothing is known of the customer.
    """
    running = MonthExport(engine=engine, request=request, issuer=issuer, now=utc_now(), within=within)
    return _ExportResponse(running, request, within=within)


class _ExportResponse(StreamingResponse):
    def __init__(self, running: MonthExport, request: ExportRequest, *, within: timedelta) -> None:
        headers = {
            "content-disposition": f'attachment; filename="{request.file_name}"',
            "cache-control": "private, no-store",
            "x-content-type-options": "nosniff",
        }
        super().__init__(iter(()), headers=headers, media_type=_MEDIA_TYPES[request.format])
        self._running = running
        self._request = request
        self._within = within
        # How it ended; None while that is open.
        self._result: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.0":
            raise ChunksUnsupportedError(
                "an export needs HTTP/1.1 or newer, which tells whether all came; nginx: proxy_http_version 1.1"
            )
        if not _slots.acquire(blocking=False):
            raise TooManyExportsError(f"{_AT_ONCE} exports are being sent; try again when one is done")
        try:
            first = await run_in_threadpool(self._running.next_chunk)
            await self._send_or_stop(first, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._end)
            _slots.release()

    async def _send_or_stop(self, first: bytes | None, receive: Receive, send: Send) -> None:
        began = monotonic()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, receive, group.cancel_scope)
                await self._send(send, first)
                group.cancel_scope.cancel()
        finally:
            self._tell(seconds=monotonic() - began)

    async def _send(self, send: Send, chunk: bytes | None) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            while chunk is not None:
                if chunk:
                    with anyio.fail_after(_STALL_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await run_in_threadpool(self._running.next_chunk)
        except ExportStoppedError:
            return
        except TimeoutError:
            self._result = "stalled"
            return
        except (MeteringError, SQLAlchemyError) as error:
            self._result = "failed"
            log.error("an export failed", extra={**self._facts(), "error": str(error).splitlines()[0]})
            return
        self._result = "whole"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, sending: anyio.CancelScope) -> None:
        """Stop sending when the client has gone, or time is up."""
        with anyio.move_on_after(self._within.total_seconds()) as time:
            while (await receive())["type"] != "http.disconnect":
                pass
        if self._result is None:
            self._result = "timed_out" if time.cancelled_caught else "left"
        # What the database does for the next chunk would otherwise be waited for.
        await run_in_threadpool(self._running.interrupt)
        sending.cancel()

    def _end(self) -> None:
        self._running.interrupt()
        self._running.close()

    def _facts(self) -> dict[str, object]:
        return {"export": self._request.file_name, "rows": self._running.rows}

    def _tell(self, *, seconds: float) -> None:
        result = self._result or "failed"
        EXPORTS.labels(self._request.kind.value, self._request.format.value, result).inc()
        level = logging.INFO if result in ("whole", "left") else logging.WARNING
        log.log(level, "export %s", result, extra={**self._facts(), "seconds": round(seconds, 1)})
