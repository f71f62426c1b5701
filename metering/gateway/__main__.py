"""`python -m metering.gateway`, or `metering-gateway`: the gateway as a process. It needs only its own extra."""

import argparse
import dataclasses
import logging
import sys
from datetime import timedelta

from metering.core.errors import MeteringError
from metering.gateway.server import BACKLOG, serve
from metering.gateway.settings import settings_from_environment
from metering.serving.processes import MAX_PROCESSES, ServingProcesses, inherited_channel, listen

log = logging.getLogger("metering.gateway")

# Workers stop by themselves within their grace; the supervisor waits a little longer before it kills them.
_PATIENCE = timedelta(seconds=10)


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
        channel = inherited_channel()
        if channel is not None:
            serve(settings=settings, channel=channel)
            return
        if options.workers is not None:
            settings = dataclasses.replace(settings, workers=options.workers)
        listening = listen(host=settings.host, port=settings.port, backlog=BACKLOG)
        host, port = listening.getsockname()[:2]
        log.info("the gateway listens on http://%s:%d, processes: %d", host, port, settings.workers)
        if settings.workers == 1:
            serve(settings=settings, listening=listening)
        else:
            ServingProcesses(
                [sys.executable, "-m", "metering.gateway"],
                count=settings.workers,
                listening=listening,
                patience=timedelta(seconds=settings.grace_seconds) + _PATIENCE,
            ).run()
    except MeteringError as error:
        sys.exit(f"metering: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="metering-gateway", description="The reference gateway; see docs/gateway.md."
    )
    parser.add_argument(
        "--workers", type=int, help="worker processes; the default is METERING_GATEWAY_WORKERS, or 1"
    )
    options = parser.parse_args()
    if options.workers is not None and not 1 <= options.workers <= MAX_PROCESSES:
        parser.error(f"--workers: expected a number from 1 to {MAX_PROCESSES}")
    return options


if __name__ == "__main__":
    main()
