"""`python -m metering.gateway`, or `metering-gateway`: the gateway as a process; it needs only its own extra."""

import logging
import sys

from metering.core.errors import MeteringError
from metering.gateway.app import run
from metering.gateway.settings import settings_from_environment


def main() -> None:
    """Serve until told to stop; a wrong setting is one line on stderr and exit code 1."""
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
