"""The root of the errors that this service expects; each is defined beside what raises it."""


class MeteringError(Exception):
    """Something a caller can do something about. The message says what is wrong and what to do.

    `metering.api.problems` maps every subclass to an HTTP answer; the CLI prints the message and exits 1.
    """
