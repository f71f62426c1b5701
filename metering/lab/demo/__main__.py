"""`python -m metering.lab.demo [--keep]`: what `metering demo` runs."""

import sys

from metering.core.errors import MeteringError
from metering.lab.demo.play import play_demo


def main() -> None:
    """Exit 0 when every figure is right."""
    try:
        right = play_demo(keep="--keep" in sys.argv[1:])
    except MeteringError as error:
        sys.exit(f"metering: {error}")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
