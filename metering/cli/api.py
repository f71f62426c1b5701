"""`metering api`: the API and the dashboard, without what the other commands need."""

import logging
from typing import Annotated

import typer

from metering.api.server import run_api
from metering.db.engine import DatabaseUnavailableError, check_safe
from metering.db.schema import check_usable
from metering.server.bootstrap import build_api_service
from metering.server.logs import configure_logging
from metering.server.settings import load_settings

log = logging.getLogger(__name__)

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one. Default: METERING_PORT.")
]


def api_command(host: Host = None, port: Port = None) -> None:
    """Run the API and the dashboard."""
    settings = load_settings(host=host, port=port)
    configure_logging(log_format=settings.log_format)
    service = build_api_service(settings)
    try:
        check_usable(service.engine)
        check_safe(service.engine)
    except DatabaseUnavailableError as error:
        log.warning("PostgreSQL is unavailable: requests get 503 until it is back", extra={"error": str(error)})
    run_api(service)
