"""`python -m metering.demo [--keep]`: what `metering demo` runs."""

import sys

from metering.demo.play import play_demo
from metering.domain.errors import MeteringError


def main() -> None:
    """Exit 0 when every figure is right."""
    try:
        right = play_demo(keep="--keep" in sys.argv[1:])
    except MeteringError as error:
        sys.exit(f"metering: {error}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
