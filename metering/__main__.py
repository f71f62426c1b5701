"""`python -m metering` and `metering` are the command line."""

import sys
from importlib import import_module

INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C ends it with one word, also while it is still being imported."""
    try:
        import_module("metering.cli.main").main()
    except KeyboardInterrupt:
        print("metering: stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
