"""Folders for the embedded servers' data: new ones, and copies of one that was initialized; and a backup."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from metering.access.store.readers import add_reader
from metering.db.engine import owner_engine, transaction
from metering.server.embedded.data_dir import ephemeral_data_dir, socket_dir
from metering.server.embedded.postgres import EmbeddedPostgres
from tests.builders.seeded import Seeded
from tests.command_line import CommandLine
from tests.database import Database
from tests.server.backups import PASSWORD, READER, database_of


@pytest.fixture
def data() -> Iterator[Path]:
    """A new folder. pytest's own are closed to other users, and PostgreSQL runs as one when we are root."""
    with ephemeral_data_dir() as folder:
        yield folder


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """What the first start leaves in a data folder; to make it takes longer than most tests."""
    with ephemeral_data_dir() as folder, socket_dir() as sockets:
        EmbeddedPostgres(data=folder, sockets=sockets).prepare()
        yield folder / "postgres"


@pytest.fixture
def initialized(data: Path, template: Path) -> Path:
    """A folder, held by nobody, in which PostgreSQL has been initialized."""
    folder = data / "initialized"
    folder.mkdir(mode=0o755)
    subprocess.run(["cp", "-a", str(template), str(folder)], check=True)  # with its owner, unlike shutil
    return folder


@pytest.fixture(scope="session")
def source(seeded: Seeded) -> Iterator[Database]:
    """A database with two months, and a reader's login."""
    database = database_of(seeded)
    engine = owner_engine(database.url)
    with transaction(engine) as connection:
        add_reader(connection, name=READER, password=PASSWORD)
    engine.dispose()
    yield database
    with psycopg.connect(database.url, autocommit=True) as owner:
        owner.execute(f"DROP ROLE {READER}".encode())


@pytest.fixture(scope="session")
def backup(source: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    folder = tmp_path_factory.mktemp("backups") / "one"
    CommandLine(source)("backup", str(folder))
    return folder
