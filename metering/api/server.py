"""Runs the API under uvicorn, with limits that uvicorn itself lacks."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.api.app import create_app
from metering.server.bootstrap import Service

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 2_000


def protocol_with_deadline(within: timedelta) -> type[HttpToolsProtocol]:
    """uvicorn's protocol that closes a connection whose request, head and body, does not arrive in time.

    uvicorn's keep-alive timer restarts with every byte: a client that sends one byte at a time would keep its
    connection for ever.
    """

    class DeadlineProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_request()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect_request()

        def on_message_complete(self) -> None:
            self._stop_waiting()
            super().on_message_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _expect_request(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(within.total_seconds(), self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                self.transport.close()

    return DeadlineProtocol


def run_api(service: Service) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished first."""
    settings = service.settings
    log.info("api listens", extra={"url": f"http://{settings.host}:{settings.port}"})
    uvicorn.run(
        create_app(service),
        host=settings.host,
        port=settings.port,
        http=protocol_with_deadline(settings.request_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=5,
        backlog=1024,
    )
