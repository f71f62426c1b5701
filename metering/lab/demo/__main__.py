"""`python -m metering.lab.demo [--keep] [--json]`, which `metering demo` runs."""

import gc
import sys
from importlib import import_module

INTERRUPTED = 130


def main() -> None:
    """Exit with 0 when every figure is right, else with 1; with 130 after Ctrl-C, also while it is imported."""
    try:
        # What is imported is no garbage, and to search it takes longer than a tenth of the import.
        gc.disable()
        play = import_module("metering.lab.demo.play")
        gc.enable()
        play.main()
    except KeyboardInterrupt:
        print("metering: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
