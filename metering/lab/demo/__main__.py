"""`python -m metering.lab.demo [--keep] [--json]`, which `metering demo` runs."""

import sys
from importlib import import_module

INTERRUPTED = 130


def main() -> None:
    """Exit with 0 when every figure is right, else with 1; with 130 after Ctrl-C, also while it is imported."""
    try:
        import_module("metering.lab.demo.play").main()
    except KeyboardInterrupt:
        print("metering: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
