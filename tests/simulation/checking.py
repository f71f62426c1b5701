"""What must be true when a simulation has settled, whatever happened before."""

from collections import Counter, defaultdict
from fractions import Fraction

from tests.scenarios.oracle import Key, bill, decimal_string
from tests.simulation.simulator import Simulator

_BOOKED = """
    SELECT s.customer_id, s.stream_id, s.state, count(c.stream_id),
           coalesce(sum(c.usd_cents), 0) + coalesce((SELECT sum(a.usd_cents) FROM adjustments a
               WHERE a.customer_id = s.customer_id AND a.stream_id = s.stream_id), 0)
    FROM streams s LEFT JOIN charges c ON c.customer_id = s.customer_id AND c.stream_id = s.stream_id
    GROUP BY 1, 2, 3
"""
_BILLED = "SELECT customer_id, billed_cents + prepaid_usd_cents FROM invoices"
_LEFT_OVER = """
    SELECT DISTINCT ON (customer_id) customer_id, remainder_usd_cents FROM invoices
    ORDER BY customer_id, period DESC
"""
_OPEN = """
    SELECT e.customer_id, sum(e.usd_cents) FROM entries e JOIN customers c ON c.customer_id = e.customer_id
    WHERE c.closed_through IS NULL OR e.period > c.closed_through GROUP BY 1
"""


def check_settled(simulator: Simulator) -> None:
    """Every stream is billed as the oracle bills it, once; invoices tie; money is proved; the audit agrees."""
    _check_streams(simulator)
    _check_invoices(simulator)
    simulator.reached += simulator.money.check().counted
    differences = simulator.months.audit(now=simulator.now)
    assert differences == [], differences
    assert simulator.months.check_totals() == sum(simulator.months.sum_of(table) for table in _BOOKS)


def count_reached(simulator: Simulator) -> Counter[str]:
    """What the run really came to: what happened to it, and what is in its books."""
    counted = simulator.reached + simulator.gateways.reached + simulator.money.reached
    for name, query in _COUNTED.items():
        ((count,),) = simulator.months.rows(query)
        counted[name] += int(count)  # type: ignore[call-overload]
    return counted


_COUNTED = {
    "charges": "SELECT count(*) FROM charges",
    "adjustments": "SELECT count(*) FROM adjustments",
    "streams that need a person": "SELECT count(*) FROM streams WHERE state <> 'finalized'",
    "billed": "SELECT count(*) FROM invoices WHERE billed_cents > 0",
    "deferred": "SELECT count(*) FROM invoices WHERE billed_cents = 0",
    "late usage": "SELECT count(*) FROM invoice_lines WHERE kind = 'late_usage'",
    "credits": "SELECT count(*) FROM manual_adjustments",
    "findings repaired": "SELECT count(*) FROM drift_findings WHERE repaired_at IS NOT NULL",
}
_BOOKS = ("charges", "adjustments", "manual_adjustments")


def _check_streams(simulator: Simulator) -> None:
    expected = bill(simulator.gateways.events)
    found: dict[Key, tuple[str, str]] = {}
    for customer_id, stream_id, state, charges, cents in simulator.months.rows(_BOOKED):
        assert charges in (0, 1), (customer_id, stream_id)
        found[str(customer_id), str(stream_id)] = str(state), decimal_string(Fraction(cents))  # type: ignore[arg-type]
    wanted = {key: (each.state, each.cost or "0") for key, each in expected.items()}
    differing = {key: (wanted.get(key), found.get(key)) for key in wanted.keys() | found.keys()}
    assert {key: pair for key, pair in differing.items() if pair[0] != pair[1]} == {}


def _check_invoices(simulator: Simulator) -> None:
    """Over all months: what was billed, prepaid, is carried on and is open is exactly what was used."""
    used: dict[str, Fraction] = defaultdict(Fraction)
    for each in bill(simulator.gateways.events).values():
        used[each.customer_id] += each.cents or 0
    for credit in simulator.credits:
        used[credit.customer_id] += Fraction(credit.cents)
    rows = simulator.months.rows
    accounted: dict[str, Fraction] = defaultdict(Fraction)
    for query in (_BILLED, _LEFT_OVER, _OPEN):
        for customer_id, cents in rows(query):
            accounted[str(customer_id)] += Fraction(cents)  # type: ignore[arg-type]
    assert {key: each for key, each in accounted.items() if each} == {
        key: each for key, each in used.items() if each
    }
