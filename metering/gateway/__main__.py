"""`python -m metering.gateway`, or `metering-gateway`: the gateway as a process. It needs only its own extra."""

import logging
import sys

from metering.core.errors import MeteringError
from metering.gateway.app import run
from metering.gateway.settings import settings_from_environment


def main() -> None:
    """Serve until SIGINT or SIGTERM. A wrong setting prints one line to stderr and exits with 1."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        run(settings=settings_from_environment())
    except MeteringError as error:
        sys.exit(f"metering: {error}")


if __name__ == "__main__":
    main()
