"""Waiting for what other processes do, with an end that a busy machine does not reach."""

import time
from collections.abc import Callable


def eventually(
    condition: Callable[[], bool], *, within: float = 60, ignoring: tuple[type[Exception], ...] = ()
) -> bool:
    """Whether it came true in time; an exception in `ignoring` means not yet."""
    deadline = time.monotonic() + within
    while True:
        try:
            if condition():
                return True
        except ignoring:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
