"""Folders for the embedded servers' data: new ones, and copies of one that was initialized before."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.server.embedded.data_dir import ephemeral_data_dir, socket_dir
from metering.server.embedded.postgres import EmbeddedPostgres


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
