"""Rates in a worker: compare the installed catalogue with the stored rates when due. It imports nothing."""

import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.corrections.compare_rates import compare_rates
from metering.prices.read_prices import read_prices
from metering.server.bootstrap import Service

log = logging.getLogger(__name__)


class Rates:
    """Comparing rates for one process. Errors are logged, and the work is tried again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    def compare_if_due(self) -> None:
        """Compare, unless it was done lately or another worker does it."""
        service = self._service()
        every = service.settings.compare_rates_every
        try:
            compare_rates(engine=service.engine, read=read_prices, every=every, now=utc_now())
        except (SQLAlchemyError, MeteringError) as error:
            log.error("comparing rates failed, will retry", extra={"error": str(error).splitlines()[0]})
