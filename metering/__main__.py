"""`python -m metering` is the command line."""

from metering.cli.main import main

main()
