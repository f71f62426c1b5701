"""A small launcher between the supervisor and a server: drops root, ties its life to the supervisor's, execs.

Run as a script with `python -I -S launch.py SUPERVISOR_PID SIGNAL USER COMMAND...`, importing nothing of this
package: doing the same in the supervisor, between fork and exec, is not safe in a process with threads.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1


def launch(arguments: list[str]) -> None:
    """Become COMMAND, as USER if one is given, to be sent SIGNAL when the supervisor dies."""
    supervisor_pid, signal_name, user, *command = arguments
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.environ["HOME"] = entry.pw_dir
    if sys.platform == "linux":
        # After setuid, which would clear it. Elsewhere a killed supervisor leaves its servers to the next start.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.Signals[signal_name]), 0, 0, 0)
        if os.getppid() != int(supervisor_pid):
            sys.exit("the supervisor is gone already")
    os.execvp(command[0], command)


if __name__ == "__main__":
    launch(sys.argv[1:])
