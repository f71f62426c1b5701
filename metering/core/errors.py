"""The base class of all expected errors; each subclass is defined beside the code that raises it."""


class MeteringError(Exception):
    """An error that the caller can act on. The message says what is wrong and how to fix it.

    `metering.api.problems` maps every subclass to an HTTP answer; the CLI prints the message and exits 1.
    """
