"""The part of our environment that programs get which are not ours."""

import os

# What a program that is not ours needs of our environment. Anything else may be a secret, which others could read:
# PostgreSQL runs as another user, and a process shows its environment to its user.
PLAIN_VARIABLES = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER"}
)


def plain_environment() -> dict[str, str]:
    """Our environment without what may be a secret: the variables above, the locale, and Python's own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in PLAIN_VARIABLES or name.startswith(("LC_", "PYTHON"))
    }
