"""Forks for tests: work in a child, and what became of it."""

import os
import traceback
from collections.abc import Callable


def in_child(work: Callable[[], bool]) -> int:
    """Fork, do the work in the child, and return the child's pid; it exits with 0 if the work returned True."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        code = 0 if work() else 1
    except BaseException:  # noqa: BLE001 - a child must not go on with the test of its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def result_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
