"""An export as a download: sent while it is read, in bounded memory and time, and visibly incomplete on failure.

The API and the dashboard call `stream_export` after they have authenticated the client. A failure before the first
byte is answered like any other failure. After that, a failure closes the connection without the end of the chunked
answer, which is how the client learns that the file is incomplete.
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
    "Exports over HTTP by result: whole, left (the client disconnected), timed_out, stalled or failed",
    ["kind", "format", "result"],
)

# Each export holds a connection and a snapshot while it runs; other requests of the process need connections too.
MAX_CONCURRENT = 3
# A client that reads nothing for this long is disconnected.
STALL_SECONDS = 60.0
_MEDIA_TYPES = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}
_slots = BoundedSemaphore(MAX_CONCURRENT)


class TooManyExportsError(MeteringError):
    """This process is already sending the most exports it may send at the same time."""


class ChunksUnsupportedError(MeteringError):
    """The client or a proxy uses HTTP/1.0, which cannot tell a broken export from a complete one."""


def stream_export(*, engine: Engine, request: ExportRequest, issuer: str, timeout: timedelta) -> Response:
    """The response that sends this export. The caller has checked that the client may have it.

    Raises, when it is sent:
        TooManyExportsError: too many exports are running.
        ChunksUnsupportedError: the request uses HTTP/1.0.
        UnknownCustomerError: there is no such customer.
    """
    running = MonthExport(engine=engine, request=request, issuer=issuer, now=utc_now(), timeout=timeout)
    return _ExportResponse(running, request, timeout=timeout)


class _ExportResponse(StreamingResponse):
    def __init__(self, running: MonthExport, request: ExportRequest, *, timeout: timedelta) -> None:
        headers = {
            "content-disposition": f'attachment; filename="{request.file_name}"',
            "cache-control": "private, no-store",
            "x-content-type-options": "nosniff",
        }
        super().__init__(iter(()), headers=headers, media_type=_MEDIA_TYPES[request.format])
        self._running = running
        self._request = request
        self._timeout = timeout
        # The value of the metric's label `result`; None until it is known.
        self._result: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.0":
            raise ChunksUnsupportedError(
                "exports need HTTP/1.1 or newer, which shows whether a file is complete;"
                " nginx: proxy_http_version 1.1"
            )
        if not _slots.acquire(blocking=False):
            raise TooManyExportsError(f"{MAX_CONCURRENT} exports are already being sent; try again later")
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
            self._report(seconds=monotonic() - began)

    async def _send(self, send: Send, chunk: bytes | None) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            while chunk is not None:
                if chunk:
                    with anyio.fail_after(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await run_in_threadpool(self._running.next_chunk)
        except ExportStoppedError:
            return
        except TimeoutError:
            self._result = "stalled"
            return
        except (MeteringError, SQLAlchemyError) as error:
            self._result = "failed"
            log.error("export failed", extra={**self._facts(), "error": str(error).splitlines()[0]})
            return
        self._result = "whole"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, sending: anyio.CancelScope) -> None:
        """Stop sending when the client disconnects, or at the timeout."""
        with anyio.move_on_after(self._timeout.total_seconds()) as time:
            while (await receive())["type"] != "http.disconnect":
                pass
        if self._result is None:
            self._result = "timed_out" if time.cancelled_caught else "left"
        # Without this, the query for the next chunk would run to its end first.
        await run_in_threadpool(self._running.interrupt)
        sending.cancel()

    def _end(self) -> None:
        self._running.interrupt()
        self._running.close()

    def _facts(self) -> dict[str, object]:
        return {"export": self._request.file_name, "rows": self._running.rows}

    def _report(self, *, seconds: float) -> None:
        result = self._result or "failed"
        EXPORTS.labels(self._request.kind.value, self._request.format.value, result).inc()
        level = logging.INFO if result in ("whole", "left") else logging.WARNING
        log.log(level, "export %s", result, extra={**self._facts(), "seconds": round(seconds, 1)})
