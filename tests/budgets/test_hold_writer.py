"""The writer of holds in an outage of the database: the gateway gets an error to try again, the log one line."""

import asyncio
import logging

import pytest

from metering.budgets.hold_writer import HoldNotCommittedError, HoldWriter
from metering.core.clock import utc_now
from metering.db.engine import service_engine
from metering.server.bootstrap import Service
from metering.server.up import free_port
from tests.builders.budgets import asked


async def ask_once(writer: HoldWriter) -> None:
    writer.start()
    try:
        with pytest.raises(HoldNotCommittedError):
            await writer.admit(asked("s1"))
    finally:
        await writer.stop()


def test_a_database_that_is_away_is_one_line_without_a_traceback(
    rated_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    away = service_engine(f"postgresql://postgres@127.0.0.1:{free_port()}/metering")
    caplog.set_level(logging.INFO, "metering.budgets")
    asyncio.run(ask_once(HoldWriter(engine=away, price_books=rated_service.price_books, clock=utc_now)))
    (said,) = [record for record in caplog.records if record.getMessage() == "holds were not committed"]
    assert not said.exc_info
    assert (said.levelno, said.requests) == (logging.ERROR, 1)  # type: ignore[attr-defined]
    assert "Connection refused" in said.error  # type: ignore[attr-defined]


def test_what_nobody_expects_is_said_with_its_traceback(
    rated_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def clock() -> None:
        raise ZeroDivisionError("no time")

    caplog.set_level(logging.INFO, "metering.budgets")
    writer = HoldWriter(engine=rated_service.engine, price_books=rated_service.price_books, clock=clock)  # type: ignore[arg-type]
    asyncio.run(ask_once(writer))
    (said,) = [record for record in caplog.records if record.getMessage() == "holds were not committed"]
    assert said.exc_info
