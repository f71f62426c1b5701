"""Backups of tests: of what, and what is in them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metering.server.embedded.data_dir import Services
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.builders.seeded import Seeded
from tests.database import Database, Template, clone

READER, PASSWORD = "backup_grafana", "a long password"


def database_of(seeded: Seeded) -> Database:
    """Where the two months are."""
    url, redis_url = seeded.service.settings.database_url, seeded.service.settings.redis_url
    assert url is not None
    assert redis_url is not None
    return Database(url.get_secret_value(), redis_url.get_secret_value())


def manifest_of(backup: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((backup / "manifest.json").read_text())
    return found


@contextmanager
def empty_database(services: Services) -> Iterator[Database]:
    """A new database of the session's server."""
    with clone(services, Template("template0")) as database:
        yield database


@contextmanager
def cluster(folder: Path, services: Services) -> Iterator[Database]:
    """The database of a data folder, whose server runs until the block ends."""
    with (
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=folder, supervisor=supervisor, valkey=False) as running,
    ):
        yield Database(running.database_url, services.redis_url)
