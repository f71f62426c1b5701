"""All in one: embedded or configured servers, a prepared database, and the service's supervised processes."""

import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import httpx2
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from metering.access.manage_access import ensure_admin_key, ensure_ingest_key
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError, transaction, will_pass
from metering.db.failures import why_failed
from metering.db.migrate import migrate
from metering.db.schema import allow_journal_drops, ensure_journal_partitions
from metering.prices.import_rates import ImportPlan, import_rates
from metering.prices.read_prices import read_prices
from metering.prices.store.cards import has_rate_cards
from metering.server.bootstrap import build_owner_engine, build_service
from metering.server.embedded.data_dir import (
    check_not_running,
    default_data_dir,
    ephemeral_data_dir,
    locked_data_dir,
)
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.outgoing import LOCAL_STRIPE_KEY
from metering.server.settings import Settings

# Only the preparation of the database needs these.
_OWNERS_SECRETS = ("METERING_ADMIN_KEY", "METERING_GATEWAY_INGEST_KEY", "METERING_MIGRATION_DATABASE_URL")
# The author of what a preparation adds.
_BY = "metering migrate"
# The arguments of Celery for a worker with two threads, and for beat.
_APP = ("--quiet", "--app", "workers.app:app")
WORKER = (*_APP, "worker", "--without-gossip", "--without-mingle", "--concurrency", "2")
BEAT = (*_APP, "beat", "--schedule", os.devnull)
_MORE_PREPARATIONS, _PREPARATION_PAUSE_SECONDS = 10, 1.0


class PortTakenError(MeteringError):
    """The port cannot be used, mostly because another process listens on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The result of preparing a database: `imported` for a new one, `admin_key` if one was generated now."""

    version: str
    imported: ImportPlan | None
    admin_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running service. `environment` is what further processes need to join it.

    `stripe_url` is the address of the local Stripe stand-in, if there is one; `data` the folder of the embedded
    servers, if any is embedded.
    """

    url: str
    prepared: Prepared
    environment: dict[str, str]
    stripe_url: str | None
    data: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStripe:
    """The Stripe stand-in that runs if there is no key; its state is stored beside the database."""

    url: str
    port: int
    state: Path
    webhook_secret: str

    @classmethod
    def of(cls, data: Path, *, port: int = 0) -> "LocalStripe":
        """A stand-in on this port, or on a free one if it is 0 or taken."""
        try:
            port = free_port(port=port)
        except PortTakenError:
            port = free_port()
        return cls(
            url=f"http://127.0.0.1:{port}",
            port=port,
            state=data / "stripe-local.db",
            webhook_secret=f"whsec_{secrets.token_hex(16)}",
        )

    def environment(self) -> dict[str, str]:
        """The variables that the service's processes need to use it."""
        return {
            "STRIPE_API_KEY": LOCAL_STRIPE_KEY,
            "STRIPE_WEBHOOK_SECRET": self.webhook_secret,
            "METERING_STRIPE_API_BASE": self.url,
        }

    def child(self, *, webhook_url: str) -> ChildSpec:
        """The stand-in as a supervised process."""
        options = ["--port", str(self.port), "--state", str(self.state), "--webhook-url", webhook_url]
        return ChildSpec(
            name="stripe",
            argv=[sys.executable, "-m", "metering.lab.stripe_local", *options],
            env={"STRIPE_LOCAL_WEBHOOK_SECRET": self.webhook_secret},
            plain=True,
            stop_timeout=5.0,
            ready=lambda: answers(f"{self.url}/livez"),
        )


def prepare(settings: Settings) -> Prepared:
    """Migrate, then give a new database the catalogue's rates and a first admin key.

    Raises:
        MeteringError: the database cannot be reached, migrated or used, or it went away meanwhile.
    """
    try:
        return _prepare(settings)
    except DBAPIError as error:
        if not will_pass(error):
            raise
        raise DatabaseUnavailableError(f"the database was not prepared: {why_failed(error)}") from error


def _prepare(settings: Settings) -> Prepared:
    owner = build_owner_engine(settings)
    version = migrate(owner)
    allow_journal_drops(owner, at_least=settings.journal_retention)
    owner.dispose()
    service = build_service(settings)
    engine = service.engine
    now = utc_now()
    ensure_journal_partitions(engine, now=now)
    with transaction(engine) as connection:
        is_new = not has_rate_cards(connection)
    imported = import_rates(engine=engine, catalogue=read_prices(), now=now, by=_BY) if is_new else None
    if settings.gateway_ingest_key is not None:
        ensure_ingest_key(
            engine=engine, configured=settings.gateway_ingest_key.get_secret_value(), now=now, by=_BY
        )
    configured = settings.admin_key.get_secret_value() if settings.admin_key else None
    # Last, because a key that was generated is shown by this run or by none.
    generated = ensure_admin_key(engine=engine, configured=configured, now=now, by=_BY)
    service.dispose()
    return Prepared(
        version=version,
        imported=imported,
        admin_key=str(generated) if generated else None,
    )


def _prepare_embedded(settings: Settings, supervisor: Supervisor) -> Prepared:
    """Prepare a database whose server is restarted if it dies meanwhile."""
    for _ in range(_MORE_PREPARATIONS):
        try:
            return prepare(settings)
        except DatabaseUnavailableError as error:
            supervisor.say("supervisor", f"{error}; trying again")
            sleep(_PREPARATION_PAUSE_SECONDS)
    return prepare(settings)


@contextmanager
def run_all_in_one(
    settings: Settings, *, supervisor: Supervisor, ephemeral: bool, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Running]:
    """Start the servers that are not configured, then API, worker and beat; all stop when the block ends.

    `tell` is called with each next step.

    Raises:
        PortTakenError: the port cannot be used.
        DataDirInUseError: another process runs on the same data.
        ChildFailedError: a part did not start.
    """
    is_embedded = settings.database_url is None
    if not ephemeral and (is_embedded or settings.redis_url is None):
        # Before the port: where this service runs already, that is what is in the way.
        check_not_running(settings.data or default_data_dir())
    stripe_port = settings.stripe_local_port if settings.port else 0
    settings = settings.model_copy(update={"port": free_port(settings.host, settings.port)})
    url = f"http://{settings.host}:{settings.port}"
    stripe: LocalStripe | None = None
    data: Path | None = None
    with ExitStack() as stack:
        if settings.database_url is None or settings.redis_url is None:
            data = stack.enter_context(_data_dir(settings, ephemeral=ephemeral, url=url))
            if settings.stripe_api_key is None and is_embedded:
                stripe = LocalStripe.of(data, port=stripe_port)
            tell("starting PostgreSQL and Valkey")
            services = stack.enter_context(
                embedded_services(
                    data=data,
                    supervisor=supervisor,
                    postgres=is_embedded,
                    valkey=settings.redis_url is None,
                    stripe_url=stripe.url if stripe else None,
                )
            )
            settings = settings.model_copy(
                update={
                    "database_url": settings.database_url or SecretStr(services.database_url),
                    "redis_url": settings.redis_url or SecretStr(services.redis_url),
                }
            )
        stack.callback(supervisor.stop)
        tell("preparing the database")
        prepared = _prepare_embedded(settings, supervisor) if is_embedded else prepare(settings)
        environment = _environment(settings)
        if stripe is not None:
            environment |= stripe.environment()
            supervisor.start([stripe.child(webhook_url=f"{url}/v1/stripe/webhook")])
        tell("starting API, worker and beat")
        supervisor.start(_parts(settings, url=url, environment=environment))
        yield Running(
            url=url,
            prepared=prepared,
            environment=environment,
            stripe_url=stripe.url if stripe else None,
            data=data,
        )


def _parts(settings: Settings, *, url: str, environment: dict[str, str]) -> list[ChildSpec]:
    api = ["api", "--host", settings.host, "--port", str(settings.port)]
    api += ["--processes", str(settings.api_processes)]
    return [
        metering_child("api", api, environment=environment, ready_url=f"{url}/livez"),
        # Not as commands, which end when the database is away: these wait for it.
        _celery_child("worker", WORKER, environment=environment),
        _celery_child("beat", BEAT, environment=environment),
    ]


def _celery_child(name: str, arguments: Sequence[str], *, environment: dict[str, str]) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=[sys.executable, "-m", "celery", *arguments],
        env=environment,
        withheld=_OWNERS_SECRETS,
        stop_timeout=5.0,
    )


def metering_child(
    name: str, command: list[str], *, environment: dict[str, str], ready_url: str | None = None
) -> ChildSpec:
    """A `metering` command as a supervised process. It is ready when `ready_url` answers."""
    return ChildSpec(
        name=name,
        argv=[sys.executable, "-m", "metering", *command],
        env=environment,
        withheld=_OWNERS_SECRETS,
        stop_timeout=5.0,
        ready=(lambda: answers(ready_url)) if ready_url else None,
        # Where many other processes run, the imports alone can take longer than half a minute.
        ready_timeout=120.0,
    )


def answers(url: str) -> bool:
    """Whether a GET of the URL succeeds."""
    try:
        return httpx2.get(url, timeout=2).is_success
    except httpx2.HTTPError:
        return False


def _environment(settings: Settings) -> dict[str, str]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "METERING_DATABASE_URL": settings.database_url.get_secret_value(),
        "METERING_REDIS_URL": settings.redis_url.get_secret_value(),
    }


@contextmanager
def _data_dir(settings: Settings, *, ephemeral: bool, url: str) -> Iterator[Path]:
    if ephemeral:
        with ephemeral_data_dir() as path:
            yield path
    else:
        with locked_data_dir(settings.data or default_data_dir(), note=f"metering up at {url}") as path:
            yield path


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """The port, if it is free; for 0, a port that is free now.

    Raises:
        PortTakenError: the port cannot be used.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTakenError(f"cannot listen on {host}:{port} ({error.strerror}): try --port") from error
        free: int = probe.getsockname()[1]
        return free
