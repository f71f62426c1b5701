"""`metering api`: the API and the dashboard, without what the other commands need."""

import logging
import sys
from datetime import timedelta
from typing import Annotated

import typer

from metering.api.server import BACKLOG, GRACE_SECONDS, run_api
from metering.cli.options import ApiProcesses
from metering.db.engine import DatabaseUnavailableError, check_safe
from metering.db.schema import check_usable
from metering.server.bootstrap import Service, build_api_service
from metering.server.logs import configure_logging
from metering.server.settings import Settings, load_settings
from metering.serving.processes import ServingProcesses, inherited_channel, listen

log = logging.getLogger(__name__)

# A process that does not end in its grace is killed this much later.
_PATIENCE = timedelta(seconds=3)

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one. Default: METERING_PORT.")
]


def api_command(host: Host = None, port: Port = None, processes: ApiProcesses = None) -> None:
    """Run the API and the dashboard."""
    channel = inherited_channel()
    settings = load_settings(host=host, port=port, api_processes=processes)
    configure_logging(log_format=settings.log_format)
    service = build_api_service(settings)
    _check_database(service)
    if channel is None and settings.api_processes > 1:
        service.dispose()
        _run_several(settings)
    else:
        run_api(service, channel=channel)


def _check_database(service: Service) -> None:
    try:
        check_usable(service.engine)
        check_safe(service.engine)
    except DatabaseUnavailableError as error:
        log.warning("PostgreSQL is unavailable: requests get 503 until it is back", extra={"error": str(error)})


def _run_several(settings: Settings) -> None:
    listening = listen(host=settings.host, port=settings.port, backlog=BACKLOG)
    host, port = listening.getsockname()[:2]
    log.info("api listens", extra={"url": f"http://{host}:{port}", "processes": settings.api_processes})
    ServingProcesses(
        [sys.executable, "-m", "metering", "api"],
        count=settings.api_processes,
        listening=listening,
        patience=timedelta(seconds=GRACE_SECONDS) + _PATIENCE,
    ).run()
