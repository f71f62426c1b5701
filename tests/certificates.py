"""The certificates that clients of tests read: none.

A client of HTTP reads all that the machine trusts as soon as it is made, which takes each of them 15 to 60 ms, and
tests make thousands. A test that speaks TLS names what it trusts.
"""

import os
from pathlib import Path

# The file goes before the folder, which many machines do not set.
_FILE = "SSL_CERT_FILE"
_given = os.environ.get(_FILE)


def trust_none() -> None:
    """Let clients in this process, and in those that it starts, read a folder that has no certificate."""
    os.environ.pop(_FILE, None)
    os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)


def as_given() -> dict[str, str]:
    """What this machine trusts, if it says so: for the environment of a program that reaches out of it."""
    return {} if _given is None else {_FILE: _given}
