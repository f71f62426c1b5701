"""The money of chaos alone: what clients are to go through, what it costs, the terms, what a gateway told."""

import json
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

import psycopg
import pytest

from metering.events.events import StreamEnd
from metering.events.wire.bodies import pack_body
from metering.lab.chaos import oracle
from metering.lab.chaos.check_money import WANTED, check_money
from metering.lab.chaos.clients import WRONGLY_REFUSED, Result
from metering.lab.chaos.fates import PLAYED, REFUSED, RELEASED, Plan, cost_of, fate_of
from metering.lab.chaos.plan import planned
from metering.lab.chaos.terms import CUSTOMERS, GATEWAY_CUSTOMER, LAPSED_CUSTOMER, Terms, budgets_of, grant_of
from metering.lab.chaos.told import told_costs
from metering.lab.chaos.traffic import Clock, Life, cut
from metering.lab.money.history import record_history
from tests.builders import NOW, Books

LATER = "2026-12-01T00:00:00+00:00"


def test_the_fates_of_a_seed_are_always_the_same_and_the_first_ones_go_through_every_plan() -> None:
    fates = [fate_of(seed=3, number=number) for number in range(600)]
    assert fates == [fate_of(seed=3, number=number) for number in range(600)]
    assert {fate.plan for fate in fates[: len(Plan)]} == set(Plan)
    assert set(Counter(fate.story.life for fate in fates)) == set(Life)
    assert len({fate.story.stream_id for fate in fates}) == 600
    for fate in fates:
        assert (fate.hold is None) == (fate.plan is Plan.UNHELD)
        assert (fate.story.customer_id == LAPSED_CUSTOMER) == (fate.plan is Plan.LAPSED)


def test_a_stream_costs_what_became_of_it() -> None:
    fate = next(
        each
        for number in range(10, 600)
        if (each := fate_of(seed=3, number=number)).story.life is Life.COMPLETED
        and each.story.model == "large"
        and len(each.story.delivered) > 2
    )
    story = fate.story
    assert cost_of(fate, REFUSED) is cost_of(fate, RELEASED) is None
    assert cost_of(fate, PLAYED) == oracle.cost(story)
    # 5 and 25 dollars a million.
    assert cost_of(fate, 2) == Fraction(story.input * 5 + story.delivered[1] * 25, 10_000)
    end = cut(story, Clock(now=NOW))
    assert isinstance(end, StreamEnd)
    assert (end.outcome, end.error_type, end.usage) == ("cancelled", "budget", None)


def test_a_hold_is_priced_as_there_is_traffic_and_the_stream_by_the_last_prices() -> None:
    assert oracle.hold_price("raised", 1_000, 100) == Fraction(1_000 * 2 + 100 * 8, 10_000)
    assert oracle.tokens_cost("raised", 1_000, 100) == Fraction(1_000 * 3 + 100 * 12, 10_000)


def test_budgets_are_raised_and_some_grants_expire_soon_or_pay_for_one_model() -> None:
    tight = next(each for each in CUSTOMERS if each.terms is Terms.TIGHT)
    limits = [budgets_of(tight, raised=turn, pace=40)[tight.customer_id]["limit_usd_cents"] for turn in range(4)]
    assert limits == ["40", "48", "56", "64"]
    overage = next(each for each in CUSTOMERS if each.terms is Terms.OVERAGE)
    grants = [grant_of(overage, number=n, pace=40, in_an_hour=LATER, in_seconds="soon") for n in range(8)]
    known = [each for each in grants if each is not None]
    assert {each.get("expires_at") for each in known} == {None, LATER, "soon"}
    assert any(each.get("only") for each in known)
    assert all(before != after for before, after in pairwise(each["amount_usd_cents"] for each in known))
    assert grant_of(tight, number=1, pace=40, in_an_hour=LATER, in_seconds="soon") is None


def test_a_run_of_minutes_has_more_faults_and_events_than_one_of_streams() -> None:
    common = {"seed": 1, "minutes": 3, "faults": None, "events_per_second": None, "gateways": 3, "clients": 8}
    of_minutes, of_streams = planned(streams=None, **common), planned(streams=13_000, **common)  # type: ignore[arg-type]
    assert (of_minutes.seconds, of_minutes.faults, of_minutes.streams) == (180, 102, 0)
    assert (of_streams.seconds, of_streams.faults, of_streams.streams) == (98.8, 12, 13_000)
    faster = planned(streams=13_000, **{**common, "events_per_second": 5_000.0})  # type: ignore[arg-type]
    assert faster.seconds == 49.4


def event(kind: str, stream_id: str, **data: object) -> dict[str, object]:
    return {"type": kind, "subject": "c", "data": {"stream_id": stream_id, **data}}


def test_what_a_gateway_told_is_read_from_the_journal(books: Books) -> None:
    start = {"model": "large", "input_tokens": 1_000}
    told = [
        event("stream-start", "whole", **start),
        event("stream-end", "whole", usage={"input_tokens": 10, "output_tokens": 3}, usage_source="provider"),
        event("stream-end", "whole", usage={"input_tokens": 9, "output_tokens": 9}, usage_source="estimate"),
        event("stream-start", "killed", **start),
        event("token-delivered", "killed", output_tokens=7),
        event("token-delivered", "killed", output_tokens=4),
        event("stream-start", "failed", **start),
        event("stream-end", "failed", outcome="failed"),
        event("stream-start", "cancelled", **start),
        event("stream-end", "cancelled", outcome="cancelled", usage={"input_tokens": 5}, usage_source="provider"),
    ]
    lines = "\n".join(json.dumps(event("stream-start", name, **start)) for name in ("line", "rejected"))
    with psycopg.connect(books.database.url) as connection:
        for body, rejected in ((json.dumps(told), None), (lines, [1])):
            connection.execute(
                "INSERT INTO journal (ingest_key_id, received_at, media_type, event_count, rejected, body)"
                " VALUES ('k', %s, 'application/json', 1, %s, %s)",
                (datetime(2026, 11, 23, tzinfo=UTC), rejected, pack_body(body.encode())),
            )
        found = told_costs(connection, ingest_key_id="k")
        connection.rollback()
    cents = {key[1]: value * 10_000 for key, value in found.items()}
    assert cents == {
        "whole": 10 * 5 + 3 * 25,
        "killed": 1_000 * 5 + 7 * 25,
        "line": 0,
        "failed": 0,
        "cancelled": 5 * 5,
    }


@pytest.mark.parametrize(
    ("noted", "says"),
    [
        (
            Result(outcomes=[], counted={WRONGLY_REFUSED: 2}, chatted=[]),
            "2 holds were refused although it would fit",
        ),
        (Result(outcomes=[], counted={"events rejected": 1}, chatted=[]), "1 events of the clients were rejected"),
        (Result(outcomes=[], counted={}, chatted=["lost"]), "1 streams of the gateway are not charged"),
        (Result(outcomes=[], counted={}, chatted=[]), "never reached: overrun failed_open"),
    ],
)
def test_what_the_clients_noted_is_a_problem(books: Books, noted: Result, says: str) -> None:
    with psycopg.connect(books.database.url) as connection:
        record_history(connection)
    found = check_money(books.database.url, noted, {}, lambda _: None)
    assert any(says in problem for problem in found.problems), found.problems
    assert len([problem for problem in found.problems if problem.startswith("never reached")]) == len(WANTED)


def test_the_gateways_customer_is_one_of_those_with_a_budget() -> None:
    (customer,) = [each for each in CUSTOMERS if each.customer_id == GATEWAY_CUSTOMER]
    assert budgets_of(customer, raised=0, pace=40)[GATEWAY_CUSTOMER]["action"] == "refuse"
    limits = [budgets_of(customer, raised=10, pace=40, taken=taken) for taken in (0, 20, 90)]
    assert [each[GATEWAY_CUSTOMER]["limit_usd_cents"] for each in limits] == ["23", "23", "92"]
