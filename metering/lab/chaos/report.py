"""The report of a run as data, and docs/reliability.md, which is written from it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from metering.lab.bench.machine import Machine
from metering.lab.chaos.harm import Done
from metering.lab.chaos.prober import Prober
from metering.lab.chaos.schedule import FaultKind


class Checks(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared at the end, and the problems, as sentences."""

    streams: int
    wrong_costs: int
    adjustments: int
    journaled_events: int
    audit_differences: int
    invoices: int
    drift: int
    cents: str
    problems: list[str]


class MoneyChecks(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to budgets, holds and grants, by name, and the problems, as sentences."""

    counted: dict[str, int]
    problems: list[str]


class KindRow(msgspec.Struct, frozen=True, kw_only=True):
    """The faults of a kind: how many were planned and how many met something.

    From the end of a fault: seconds until a stream was acknowledged, and until a new one was final. None if no
    fault of the kind was followed by one.
    """

    kind: FaultKind
    planned: int
    reached: int
    met: int
    acknowledged_median: float | None
    acknowledged_worst: float | None
    final_median: float | None
    final_worst: float | None


class ChaosReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Events are counted without what the emitters left out; times are in seconds."""

    machine: Machine
    seed: int
    seconds: float
    gateways: int
    clients: int
    events_per_second: float
    settled_seconds: float = 0.0
    kinds: list[KindRow]
    not_possible: dict[str, str] = {}
    outages: int
    outage_seconds: float
    longest_outage: float
    probes: int
    tracebacks: int
    restarts: int
    checks: Checks
    money: MoneyChecks = MoneyChecks(counted={}, problems=[])

    @property
    def faults(self) -> int:
        """The number of faults that met something."""
        return sum(row.reached for row in self.kinds)

    @property
    def problems(self) -> list[str]:
        """What went wrong: a check that fails, and a kind of fault that was never reached."""
        missed = [f"never reached: {row.kind.value}" for row in self.kinds if not row.reached]
        return [*self.checks.problems, *self.money.problems, *missed]


def kind_rows(done: Sequence[Done], prober: Prober) -> list[KindRow]:
    """One row for each kind that was planned."""
    rows = []
    for kind in FaultKind:
        mine = [each for each in done if each.fault.kind is kind]
        if not mine:
            continue
        reached = [each for each in mine if each.met and not each.problem]
        ends = [each.ended for each in reached]
        acknowledged = _known(map(prober.acknowledged_after, ends))
        final = _known(map(prober.final_after, ends))
        rows.append(
            KindRow(
                kind=kind,
                planned=len(mine),
                reached=len(reached),
                met=sum(each.met for each in reached),
                acknowledged_median=_rounded(acknowledged, median),
                acknowledged_worst=_rounded(acknowledged, max),
                final_median=_rounded(final, median),
                final_worst=_rounded(final, max),
            )
        )
    return rows


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _rounded(values: Sequence[float], summary: Callable[[Sequence[float]], float]) -> float | None:
    return round(summary(values), 2) if values else None


_HEAD = """# Reliability

`make chaos MINUTES=30` (`metering bench chaos`) runs the whole product under traffic and faults: `metering up` on
an embedded PostgreSQL and Valkey, gateways that post through the emitter with its spool, clients that ask for
holds, the reference gateway, and the local Stripe. At the end, the cost of every stream is compared with an oracle
that shares no code with the product, every month adds up, the invoices agree with Stripe's, `metering audit` finds
nothing, and nothing is stuck. A kind of fault that was never reached fails the run.
`metering bench reliability-page` writes this page from `docs/reliability/chaos.json`.

The faults are a pure function of the seed: `make chaos MINUTES=… SEED=…` plays the same ones again.
`make chaos STREAMS=200000 CLIENTS=64` goes on until there are so many streams of all senders, with fewer faults a
minute; `STREAMS=1000000` is the longer run. The aim of a long run is 1,000 faults and 10 million events, which is
what `MINUTES=30` plans. [Decision 44](decisions/0044-chaos-is-a-command.md) says how it works.

## Budgets, holds and grants

While the faults happen, a desk sets and raises budgets, sets and ends one of the whole deployment, and makes,
voids and refunds grants. Clients ask for holds of the worst case and for sliding ones, release some, begin some
streams after the hold has expired, and report more than was held. Streams run through the reference gateway for a
customer whose budget ends again and again.

Triggers of the lab write down what every transaction changes. An oracle of its own (`metering/lab/money`), written
from [budgets](budgets.md) and [credits](credits.md), follows all of them in the order of their commits and checks:

- `spent + held` is at most the limit at every commit that admits or extends a hold, which has the right price;
- what the product keeps as spent and held is the sum of the entries and of the open holds, after every commit;
- every charge closes its hold, and no hold of a stream that had begun was given back;
- every cent beyond a hold is an overrun with the right amount and reason, and there is no other overrun;
- grants paid exactly what they had to, in order, and nothing after their expiry;
- no hold is open at the end, and every stream that a client read through the gateway is charged.

An outcome that the run never reached fails it, as a kind of fault does: a reason of an overrun, a stream that had
to stop, a refused hold, a restored draw.
"""

_NOT_IN_A_RUN = """## What no run reaches

- Power loss: the kernel keeps what a killed process wrote, and where the disk can be full, it is in memory.
- The clocks of the server and of PostgreSQL. Those of gateways are wrong in every run.
- The gateways' own disk full, and a gateway that is killed before its events are on its spool's disk.
- Windows of budgets that end during the run, unless it runs over midnight. The simulator (`make simulation`) has
  them.
"""


def render_page(results: Path) -> str:
    """The page as Markdown, from the folder with `chaos.json`."""
    report = msgspec.json.decode((results / "chaos.json").read_bytes(), type=ChaosReport)
    return "\n".join([_HEAD, "## The last run", "", *render(report), "", _NOT_IN_A_RUN])


def render(report: ChaosReport) -> list[str]:
    """The figures as Markdown."""
    machine, checks = report.machine, report.checks
    result = "**Nothing was wrong.**" if not report.problems else "**Problems:**"
    return [
        f"`{machine.command}`, seed {report.seed}, {machine.measured_at:%Y-%m-%d}, revision {machine.revision}: "
        f"{machine.cores} cores of {machine.cpu}, {machine.memory_gib} GiB, {machine.system}, "
        f"Python {machine.python}, PostgreSQL {machine.postgres}.",
        "",
        result,
        "",
        *(f"- {problem}" for problem in report.problems),
        *([""] if report.problems else []),
        *_figures(report),
        "",
        *_money(report.money.counted),
        "",
        "| fault | planned | reached | acknowledged again, median s | worst s | final again, median s | worst s |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {row.kind.value} | {row.planned} | {row.reached} | {_text(row.acknowledged_median)} "
            f"| {_text(row.acknowledged_worst)} | {_text(row.final_median)} | {_text(row.final_worst)} |"
            for row in report.kinds
        ),
        "",
        "Times are from the end of the fault: until a stream of the prober is acknowledged, and until one that "
        "began after the fault is final. Faults overlap, so a time can include the next fault.",
        "",
        *(f"Not possible on this machine: {kind} ({why})." for kind, why in report.not_possible.items()),
        f"After the last fault and the gateways' end, everything was settled in {report.settled_seconds:.1f} s; "
        f"{checks.streams:,} streams cost {checks.cents} cents in all.",
    ]


def _figures(report: ChaosReport) -> list[str]:
    checks = report.checks
    figures = {
        "faults reached": f"{report.faults:,} of {sum(row.planned for row in report.kinds):,}",
        "time with faults": f"{report.seconds:.0f} s",
        "clients that ask for holds, at once": f"{report.clients:,}",
        "events in the journal": f"{checks.journaled_events:,}",
        "streams": f"{checks.streams:,}",
        "streams with another cost than the oracle's": f"{checks.wrong_costs:,}",
        "differences found by the audit": f"{checks.audit_differences:,}",
        "adjustments booked": f"{checks.adjustments:,}",
        "invoices": f"{checks.invoices:,}",
        "differences from Stripe": f"{checks.drift:,}",
        "time without an acknowledgement": f"{report.outage_seconds:.1f} s in {report.outages} outages, "
        f"the longest {report.longest_outage:.1f} s",
        "restarts of processes by the supervisors": f"{report.restarts:,}",
        "tracebacks in the log": f"{report.tracebacks:,}",
    }
    return ["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in figures.items())]


# What happened to money, and the names under which it is counted.
_COUNTED = {
    "transactions followed by the oracle": "transactions",
    "entries booked": "entries",
    "holds asked for by the clients": "asked",
    "refused to them, for want of money": "refused",
    "completions asked for through the reference gateway": "chats",
    "of them refused with 402": "chats refused: budget_exhausted",
    "holds admitted": "admitted",
    "open at once, at most": "most open at once",
    "times a hold was extended": "extended",
    "limits checked at an admission": "limits checked",
    "holds settled by their charges": "settled",
    "expired": "expired",
    "released": "released",
    "streams that had to stop": "stopped",
    "overruns: usage came late": "overrun late_usage",
    "overruns: more was counted than was held": "overrun counted_more",
    "overruns: the hold had expired": "overrun hold_expired",
    "overruns: no hold was asked for": "overrun no_hold",
    "overruns: the service could not be asked": "overrun failed_open",
    "overruns: rerated": "overrun rerated",
    "grants": "granted",
    "draws of grants": "drawn",
    "draws restored": "restored",
}


def _money(counted: Mapping[str, int]) -> list[str]:
    return [
        "| budgets, holds and grants | |",
        "|---|--:|",
        *(f"| {name} | {counted.get(key, 0):,} |" for name, key in _COUNTED.items()),
    ]


def _text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
