"""How a process that we started is asked to stop, ended with all that it started, and spoken of."""

import contextlib
import os
import signal
import subprocess

import psutil


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is over, without collecting it: until then its id, and its group's, cannot become another's."""
    if process.returncode is not None:
        return True
    try:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE  # macOS before Python 3.13
    except (ChildProcessError, psutil.NoSuchProcess):
        return True


def ask_to_stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process itself; it knows best in what order its own children stop."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill it and whatever it has started that is still in its group; collect it, and return its code."""
    if process.returncode is None:
        # macOS refuses, instead of finding nobody, when all that is left of a group has exited.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def describe_exit(returncode: int) -> str:
    """A return code in words; a real-time signal has no name."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
