"""`metering api`: the API and the dashboard, without what the other commands need."""

from typing import Annotated

import typer

from metering.api.server import run_api
from metering.server.bootstrap import build_service
from metering.server.logs import configure_logging
from metering.server.settings import load_settings

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: METERING_HOST.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0 for a free one. Default: METERING_PORT.")
]


def api_command(host: Host = None, port: Port = None) -> None:
    """Run the API and the dashboard."""
    settings = load_settings(host=host, port=port)
    configure_logging(log_format=settings.log_format)
    run_api(build_service(settings, pool_size=20))
