"""`metering doctor`: checks of the services that the configuration names, and the settings that are in use."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from redis import Redis

from metering.cli.failures import failure_of
from metering.cli.known import did_you_mean
from metering.cli.options import AsJson
from metering.cli.service import redact_url
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.customers.queries.time_zones import unusable_zones
from metering.db.citus import misplaced_tables, nodes_with_shards, on_citus
from metering.db.distribution import PLACEMENTS
from metering.db.engine import transaction
from metering.server.bootstrap import Service, build_service, redis_url
from metering.server.inlet_settings import InletSettings
from metering.server.queries import server_facts, work_health
from metering.server.setting_names import duration_text, unknown_variables
from metering.server.settings import Settings, load_settings, variable_of
from metering.server.terminal.output import print_json, say, show

MAX_CLOCK_DIFFERENCE = timedelta(seconds=2)
MAX_DUE_AGE = timedelta(minutes=1)
_MAX_NAMED = 5


def doctor_command(
    settings: Annotated[bool, typer.Option("--settings", help="Show all settings, with what they mean.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check database, clock, finalizer, queue and settings.

    Shows the settings that differ from their defaults, without secrets. Exit code 1: a check fails.
    """
    configured = load_settings()
    checks, rows = _checks(configured), _configuration(configured)
    if as_json:
        print_json([*checks, *rows])
    else:
        show(checks, as_json=False, empty="", important=("what", "status", "value"))
        print()
        if not settings:
            rows = [{**row, "status": None, "meaning": None} for row in rows if row["status"] == "set"]
        heard = [{"setting": row.pop("what"), **row} for row in rows]
        show(
            heard,
            as_json=False,
            empty="all settings have their defaults",
            important=tuple(heard[0]) if heard else (),
        )
        if not settings:
            say("all settings, with what they mean: metering doctor --settings")
    if any(row["status"] == "FAILED" for row in checks):
        sys.exit(1)


def _configuration(settings: Settings) -> list[dict[str, Any]]:
    rows = []
    # A part of the settings is inherited; it comes last.
    fields = sorted(type(settings).model_fields.items(), key=lambda each: each[0] in InletSettings.model_fields)
    for name, field in fields:
        value = getattr(settings, name)
        rows.append(
            {
                "what": variable_of(name),
                "status": "set" if name in settings.model_fields_set else "default",
                "value": _redacted(value),
                "meaning": field.description,
            }
        )
    return rows


def _redacted(value: Any) -> str:
    match value:
        case None:
            return ""
        case timedelta():
            return duration_text(value)
        case SecretStr():
            secret = value.get_secret_value()
            return redact_url(secret) if "://" in secret else "…"
    return str(value)


def _checks(settings: Settings) -> list[dict[str, Any]]:
    # Built once; each check that needs it reports the error if that fails.
    service = cache(lambda: build_service(settings))
    checks: dict[str, Callable[[], str | None]] = {
        "database": lambda: _check_database(service()),
        "cluster": lambda: _check_cluster(service()),
        "clock": lambda: _check_clock(service()),
        "finalizer": lambda: _check_finalizer(service()),
        "queue": lambda: _check_queue(settings),
        "time zones": lambda: _check_time_zones(service()),
    }
    rows = []
    for what, check in checks.items():
        try:
            status, found = "ok", check()
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            status, found = "FAILED", failure.message
        if found is not None:
            rows.append({"what": what, "status": status, "value": found, "meaning": ""})
    return [*rows, *_unheeded(os.environ)]


def _unheeded(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each variable that looks like a setting and is none."""
    known = [variable_of(name) for name in Settings.model_fields]
    return [
        {
            "what": "environment",
            "status": "warning",
            "value": f"{name} is no setting and has no effect{did_you_mean(name, known)}",
            "meaning": "",
        }
        for name in unknown_variables(environment)
    ]


class UnhealthyError(MeteringError):
    """A service answers, but is not in order."""


def _check_database(service: Service) -> str:
    with transaction(service.engine) as connection:
        server = server_facts(connection)
    return f"PostgreSQL {server.version}, as {server.login}, schema current, commits durable"


def _check_cluster(service: Service) -> str | None:
    """What Citus has distributed; None on plain PostgreSQL."""
    with transaction(service.engine) as connection:
        if not on_citus(connection):
            return None
        misplaced = misplaced_tables(connection)
        nodes = nodes_with_shards(connection)
    if misplaced:
        tables = ", ".join(table for table, _ in misplaced)
        raise UnhealthyError(f"not distributed on Citus: {tables}: run `metering migrate`")
    counts = Counter(placement.value for _, placement in PLACEMENTS)
    return f"Citus, shards on {nodes} nodes; tables: {', '.join(f'{n} {where}' for where, n in counts.items())}"


def _check_clock(service: Service) -> str:
    with transaction(service.engine) as connection:
        difference = abs(utc_now() - server_facts(connection).now)
    if difference > MAX_CLOCK_DIFFERENCE:
        raise UnhealthyError(
            f"this machine's clock and the database's differ by {difference}: synchronize both (NTP)"
        )
    return f"{difference / timedelta(milliseconds=1):.0f} ms from the database's"


def _check_finalizer(service: Service) -> str:
    with transaction(service.engine) as connection:
        health = work_health(connection, now=utc_now())
    if health.oldest_due_age > MAX_DUE_AGE:
        raise UnhealthyError(
            f"{health.due} streams are due, the oldest for {health.oldest_due_age}: run `metering worker`"
        )
    waiting = ", ".join(f"{count} {state}" for state, count in sorted(health.states.items())) or "none"
    return f"{health.due} streams due; not final: {waiting}"


def _check_time_zones(service: Service) -> str:
    with transaction(service.engine) as connection:
        found = unusable_zones(connection, limit=_MAX_NAMED)
    if found.problems:
        more = ", …" if found.customers > len(found.first) else ""
        raise UnhealthyError(
            f"{'; '.join(found.problems.values())}: the months of {found.customers:,} customers cannot be closed"
            f" ({', '.join(found.first)}{more}); set another with `metering customers set ID --time-zone`"
        )
    return "all are usable"


def _check_queue(settings: Settings) -> str:
    with Redis.from_url(redis_url(settings), socket_timeout=3, socket_connect_timeout=3) as redis:
        redis.ping()
    return "answers"
