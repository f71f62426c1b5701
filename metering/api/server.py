"""Runs the API under uvicorn, with limits that uvicorn itself lacks."""

import contextlib
import logging
import socket
import sys
from typing import Any

import uvicorn

from metering.api.app import create_app
from metering.api.connections import ConnectionLimits
from metering.api.gate import Gate
from metering.api.protocol import ServerLimits, limited_protocol
from metering.server.bootstrap import Service
from metering.server.settings import Settings
from metering.serving.server import SharingServer

log = logging.getLogger(__name__)

# New connections that the kernel keeps (net.core.somaxconn at most) while the process accepts others. A client
# beyond that tries again after 1, 3 and 7 seconds.
BACKLOG = 4_096
# The time in which a process that was asked to stop answers its last requests.
GRACE_SECONDS = 5
_NOT_STARTED = 3
_SWITCH_SECONDS = 0.0002


def server_config(service: Service, **options: Any) -> uvicorn.Config:
    """How uvicorn serves the API of a service. `options` replace those of production."""
    settings = service.settings
    given: dict[str, Any] = {
        "http": limited_protocol(_limits(settings)),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # An address in X-Forwarded-For is believed from these only.
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": [str(each) for each in settings.proxy_networks],
        "timeout_keep_alive": 60,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "backlog": BACKLOG,
    }
    return uvicorn.Config(Gate(create_app(service)), **{**given, **options})


def _limits(settings: Settings) -> ServerLimits:
    connections = ConnectionLimits(
        total=settings.max_connections,
        per_address=settings.max_connections_per_address,
        proxies=settings.proxy_networks,
    )
    return ServerLimits(
        connections=connections, request_time=settings.request_timeout, send_time=settings.send_timeout
    )


def run_api(service: Service, *, channel: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests in progress are finished first.

    On the address of the settings, or what a supervising process hands on by its channel.
    """
    settings = service.settings
    # Threads decode large bodies and compute reads; beside them, the event loop waits this long for its turn.
    sys.setswitchinterval(_SWITCH_SECONDS)
    if channel is None:
        log.info("api listens", extra={"url": f"http://{settings.host}:{settings.port}"})
    server = SharingServer(server_config(service, host=settings.host, port=settings.port), channel=channel)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)
