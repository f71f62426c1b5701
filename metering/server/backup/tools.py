"""PostgreSQL's own pg_dump and pg_restore, from the wheel of the embedded server."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import psycopg
from sqlalchemy import make_url

from metering.server.backup.manifest import BackupFailedError
from metering.server.embedded.postgres import client_tool

Process = subprocess.Popen[bytes]


def conninfo_of(url: str) -> str:
    """A URL as psycopg and the tools take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def dump_tool(*, encrypted: bool) -> Path:
    """The pg_dump to use. The wheel's cannot encrypt; if the service's connection is encrypted, this one is, too.

    Raises:
        BackupFailedError: the connection is encrypted, and no other pg_dump is on the PATH.
    """
    if not encrypted:
        return client_tool("pg_dump")
    found = shutil.which("pg_dump")
    if found is None:
        raise BackupFailedError(
            "the connection to PostgreSQL is encrypted, and the built-in pg_dump cannot do that: install one of"
            " the server's version (Debian: postgresql-client-18), or back up over the server's socket"
        )
    return Path(found)


def start_dump(url: str, *, encrypted: bool, folder: Path, snapshot: str, jobs: int, errors: IO[bytes]) -> Process:
    """Start to dump what a snapshot sees into a folder that does not exist."""
    options = {name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(conninfo_of(url)).items()}
    password = options.pop("password", None)
    if encrypted and options.get("sslmode", "prefer") in ("allow", "prefer"):
        options["sslmode"] = "require"
    command = [
        str(dump_tool(encrypted=encrypted)),
        "--format=directory",
        f"--file={folder}",
        f"--jobs={jobs}",
        f"--snapshot={snapshot}",
        "--compress=1",
        "--no-owner",
        "--no-tablespaces",
        "--no-publications",
        "--no-subscriptions",
        "--no-password",
        "--lock-wait-timeout=60s",
        f"--dbname={psycopg.conninfo.make_conninfo('', **options)}",
    ]
    return subprocess.Popen(command, env=_environment(password), stdin=subprocess.DEVNULL, stderr=errors)


def start_reading(dump: Path, *, section: str, errors: IO[bytes]) -> Process:
    """Start to print the SQL of a section of a dump: `pre-data`, `data` or `post-data`."""
    command = [str(client_tool("pg_restore")), f"--section={section}", "--no-owner", "--file=-", str(dump)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)


def said(errors: IO[bytes]) -> str:
    """What a tool wrote to the file of its errors."""
    errors.seek(0)
    return errors.read().decode(errors="replace").strip()


def end(process: Process) -> None:
    """Stop a tool that still runs, and reap it."""
    if process.poll() is None:
        process.kill()
    process.wait()


def _environment(password: object) -> Mapping[str, str]:
    # A password in the arguments would be readable by every user of the machine.
    return {**os.environ, "PGPASSWORD": str(password)} if password else os.environ
