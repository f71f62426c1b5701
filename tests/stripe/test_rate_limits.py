"""Stripe's limits: what workers share keeps below them, and where it does not, 429s cost time and nothing else."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis

from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.push_due import Pusher, push_due
from tests.builders import Months
from tests.database import Database
from tests.local_stripe import KEY

pytestmark = pytest.mark.long

CUSTOMERS = [f"c{number:02d}" for number in range(24)]
WORKERS = 3


def push_month(months: Months, database: Database, rates: Rates) -> Counter[int]:
    """Several workers that know of each other by Valkey only push until nothing is under way; the statuses."""
    months.month(*CUSTOMERS)
    months.stripe.control.clear_requests()
    months.stripe.control.limit(in_all=24, per_endpoint=8)
    with ThreadPoolExecutor(WORKERS) as pool:
        for each in [pool.submit(work, months, pusher(months, database, rates)) for _ in range(WORKERS)]:
            each.result()
    months.stripe.control.limit()
    return Counter(each["status"] for each in months.stripe.control.requests())


def pusher(months: Months, database: Database, rates: Rates) -> Pusher:
    limiter = Limiter(redis=Redis.from_url(database.redis_url), name=database.url, rates=rates)
    port = StripeClientPort(api_key=KEY, api_base=months.stripe.url, limiter=limiter)
    return replace(months.pusher(), port=port)


def work(months: Months, pusher: Pusher) -> None:
    """As a worker does, one look after the other."""
    until = time.monotonic() + 90
    while months.rows("SELECT FROM invoice_pushes WHERE due_at IS NOT NULL"):
        assert time.monotonic() < until
        if not push_due(pusher=pusher, limit=4, threads=4):
            time.sleep(0.05)


def check_all_is_right(months: Months) -> None:
    assert months.rows("SELECT state, count(*) FROM invoice_pushes GROUP BY 1") == [("final", len(CUSTOMERS))]
    assert months.at_stripe() == [("open", 100, 1)] * len(CUSTOMERS)
    assert months.rows("SELECT count(*) FROM stripe_operations WHERE outcome IS DISTINCT FROM 'done'") == [(0,)]


def test_workers_that_ask_for_more_than_stripe_gives_end_right_and_none_is_stuck(
    months: Months, rated_database: Database
) -> None:
    statuses = push_month(months, rated_database, Rates(in_all=500, per_endpoint=500))
    assert statuses[429] > 0
    assert set(statuses) == {200, 429}
    check_all_is_right(months)


def test_workers_that_share_less_than_stripe_gives_are_never_refused(
    months: Months, rated_database: Database
) -> None:
    statuses = push_month(months, rated_database, Rates(in_all=12, per_endpoint=4))
    assert statuses == {200: 4 * len(CUSTOMERS)}
    check_all_is_right(months)
