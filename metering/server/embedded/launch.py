"""A launcher between the supervisor and a server: drops root, asks to be stopped with the supervisor, and execs.

It runs as a script, `python -I -S launch.py SUPERVISOR_PID SIGNAL USER COMMAND...`, and imports nothing of this
package. The supervisor has threads, so it cannot do these steps safely itself between fork and exec.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1


def launch(arguments: list[str]) -> None:
    """Become COMMAND, as USER if one is given. The kernel sends it SIGNAL when the supervisor dies."""
    supervisor_pid, signal_name, user, *command = arguments
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.environ["HOME"] = entry.pw_dir
    if sys.platform == "linux":
        # After setuid, which would clear it. On other systems the next start stops what a killed supervisor left.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.Signals[signal_name]), 0, 0, 0)
        if os.getppid() != int(supervisor_pid):
            sys.exit("the supervisor has already exited")
    os.execvp(command[0], command)


if __name__ == "__main__":
    launch(sys.argv[1:])
