"""`python -m metering.gateway`, or `metering-gateway`: the gateway as a process. It needs only its own extra."""

import argparse
import dataclasses
import logging
import socket
import sys

from metering.core.errors import MeteringError
from metering.gateway.server import listen, serve
from metering.gateway.settings import settings_from_environment
from metering.gateway.workers import SOCKET_OPTION, Workers


def main() -> None:
    """Serve until SIGINT or SIGTERM. A wrong setting prints one line to stderr and exits with 1."""
    options = _options()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        settings = settings_from_environment()
        if options.fd is not None:
            serve(settings=settings, listening=socket.socket(fileno=options.fd))
            return
        if options.workers is not None:
            settings = dataclasses.replace(settings, workers=options.workers)
        listening = listen(host=settings.host, port=settings.port)
        if settings.workers == 1:
            serve(settings=settings, listening=listening)
        else:
            Workers(settings=settings, listening=listening).run()
    except MeteringError as error:
        sys.exit(f"metering: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="metering-gateway", description="The reference gateway; see docs/gateway.md."
    )
    parser.add_argument(
        "--workers", type=int, help="worker processes; the default is METERING_GATEWAY_WORKERS, or 1"
    )
    # For the workers: the descriptor of the listening socket.
    parser.add_argument(SOCKET_OPTION, dest="fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workers is not None and not 1 <= options.workers <= 64:
        parser.error("--workers: expected a number from 1 to 64")
    return options


if __name__ == "__main__":
    main()
