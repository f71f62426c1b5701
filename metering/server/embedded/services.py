"""Both embedded servers under one supervisor, for `metering up`, the demo and the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metering.server.embedded.data_dir import Services, announced, fixed_socket_dir
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
    """Start the selected servers on a locked data folder; they stop with the supervisor.

    `stripe_url`, the URL of a local stand-in for Stripe, is announced with them.
    """
    with (
        fixed_socket_dir(data, "postgres-socket") as postgres_sockets,
        fixed_socket_dir(data, "valkey-socket") as valkey_sockets,
    ):
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
            # Also after a failed start: the caller then unlocks or removes the folder.
            supervisor.stop()
