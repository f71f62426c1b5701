"""What /metrics says, as numbers."""

from datetime import UTC, datetime

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from metering.api.metrics import build_work_collector
from metering.db.engine import transaction
from metering.ledger.store.rollups import roll_up_totals
from metering.server.bootstrap import Service
from metering.server.store import WorkDone, write_heartbeat


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """One number; `class_` is the label `class`."""
        wanted = {label.rstrip("_"): value for label, value in labels.items()}
        return self.samples[name, tuple(sorted(wanted.items()))]

    def __contains__(self, name: str) -> bool:
        return any(found == name for found, _ in self.samples)

    def not_zero(self, name: str) -> dict[str, float]:
        """By the value of its one label, what is not zero."""
        return {labels[0][1]: value for (found, labels), value in self.samples.items() if found == name and value}

    @property
    def ours(self) -> set[str]:
        """The names of our metrics, as queries write them; a histogram's without its endings."""
        return {
            f"{name}_total" if family.type == "counter" else name
            for name, family in self.families.items()
            if name.startswith("metering_") and not name.endswith("_created")
        }


def let_everything_have_happened(service: Service) -> None:
    """What is only told once it has happened: a roll-up, a worker's life, a reconciliation, a look at alerts, …"""
    now = datetime.now(UTC)
    roll_up_totals(service.engine)
    with transaction(service.engine) as connection:
        write_heartbeat(connection, worker_id="w", host="h", started_at=now, now=now, done=WorkDone())
        connection.exec_driver_sql(
            "INSERT INTO reconciliations (reconciliation_id, repair, requested_by, started_at, finished_at)"
            " VALUES ('rec_test', false, 'test', now(), now())"
        )
        connection.exec_driver_sql("UPDATE alert_evaluations SET evaluated_at = now()")
        connection.exec_driver_sql("UPDATE rate_comparisons SET compared_at = now()")


def scrape_work(service: Service) -> Scrape:
    """What is true of the deployment, read anew."""
    return Scrape(
        generate_latest(build_work_collector(service.settings, engine=service.engine, keep_seconds=0)).decode()
    )
