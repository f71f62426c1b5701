"""Stages of benchmarks on the servers of the session."""

from collections.abc import Iterator
from contextlib import contextmanager

from metering.lab.bench.stage import Stage, Stages, stage_on
from metering.server.embedded.data_dir import Services
from tests.database import Servers, Template, clone


def stages_on(servers: Servers, template: Template) -> Stages:
    """Stages on these servers, each with a database of its own."""

    @contextmanager
    def on_a_clone() -> Iterator[Stage]:
        with clone(servers.services, template) as database:
            given = Services(database_url=database.url, redis_url=database.redis_url)
            with stage_on(given, servers=servers.supervisor) as running:
                yield running

    return on_a_clone
