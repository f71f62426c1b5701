"""Both embedded servers under one supervisor, for `metering up`, the demo and the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.server.embedded.data_dir import Services, announced, socket_dir
from metering.server.embedded.postgres import EmbeddedPostgres
from metering.server.embedded.supervisor import Supervisor
from metering.server.embedded.valkey import EmbeddedValkey


@contextmanager
def embedded_services(
    *,
    data: Path,
    supervisor: Supervisor,
    postgres: bool = True,
    valkey: bool = True,
    stripe_url: str | None = None,
) -> Iterator[Services]:
    """Start the servers that are wanted on a locked data folder; they stop with the supervisor.

    `stripe_url` is where a local stand-in for Stripe will be, for others to find it.
    """
    with socket_dir() as postgres_sockets, socket_dir() as valkey_sockets:
        database = EmbeddedPostgres(data=data, sockets=postgres_sockets)
        queue = EmbeddedValkey(sockets=valkey_sockets)
        specs = []
        if postgres:
            database.prepare()
            specs.append(database.child_spec())
        if valkey:
            specs.append(queue.child_spec())
        services = Services(database_url=database.url("metering"), redis_url=queue.url, stripe_url=stripe_url)
        try:
            if specs:
                supervisor.start(specs)
            with announced(data, services):
                yield services
        finally:
            # After a start that failed half-way too: what comes next frees the folder, or removes it.
            supervisor.stop()
