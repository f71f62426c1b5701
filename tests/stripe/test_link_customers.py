"""Customers are created at Stripe once each, whatever Stripe answers, and none holds up another."""

from collections import Counter

import pytest

from metering.lab.stripe_local.faults import Fault
from metering.stripe.link_customers import list_unlinked
from tests.builders import Months
from tests.command_line import CommandLine
from tests.local_stripe import KEY

ENDPOINT = "POST /v1/customers"
CREATE = ("customers", "link", "--create", "--yes")
NAMES = ("a", "b", "c")


@pytest.fixture
def metering(months: Months) -> CommandLine:
    """The command line, with customers that are not at Stripe."""
    command = CommandLine(months.database, STRIPE_API_KEY=KEY, METERING_STRIPE_API_BASE=months.stripe.url)
    for name in NAMES:
        command("customers", "set", name, "--name", name.upper())
    return command


def at_stripe(months: Months) -> Counter[str]:
    """How many customers are at Stripe for each of ours."""
    found = months.stripe.client.v1.customers.list({"limit": 100}).data
    return Counter(each.metadata.to_dict()["metering_customer"] for each in found if each.metadata)


def linked(months: Months) -> set[str]:
    unlinked = {each.customer_id for each in list_unlinked(engine=months.service.engine)}
    return set(NAMES) - unlinked


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.LOCK_TIMEOUT, Fault.LOST_REPLY])
def test_an_error_that_stripe_repeats_for_a_day_is_got_over_at_once(
    months: Months, metering: CommandLine, fault: Fault, skip: int
) -> None:
    """As once in chaos: a 500 kept under the key of one customer held up those after it as well."""
    months.stripe.control.fail_next(ENDPOINT, fault, skip=skip)
    assert "3 Stripe customers created and linked" in metering(*CREATE).stderr
    assert (linked(months), at_stripe(months)) == (set(NAMES), Counter(NAMES))
    assert "0 Stripe customers created and linked" in metering(*CREATE).stderr


def test_errors_of_one_customer_end_and_the_others_are_linked(months: Months, metering: CommandLine) -> None:
    months.stripe.control.fail_next(ENDPOINT, Fault.ERROR_BEFORE, skip=2, times=100)
    ended = metering(*CREATE, "--json", exits=2)
    assert "2 Stripe customers created and linked" in ended.stderr
    assert "1 customer could not be created" in ended.stderr
    months.stripe.control.clear_faults()
    metering(*CREATE)
    assert (linked(months), at_stripe(months)) == (set(NAMES), Counter(NAMES))


def test_a_customer_that_stripe_refuses_is_left_with_the_reason(months: Months, metering: CommandLine) -> None:
    months.stripe.control.fail_next(ENDPOINT, Fault.STORED_ERROR, status=400)
    rows = metering.json(*CREATE, exits=2)
    assert [each["customer_id"] for each in rows if each["problem"]] == ["a"]
    assert (linked(months), at_stripe(months)) == ({"b", "c"}, Counter("bc"))


def test_customers_that_an_earlier_run_created_are_linked(months: Months, metering: CommandLine) -> None:
    """A database that was restored from a backup knows nothing of them."""
    metering(*CREATE)
    with months.owner() as connection:
        connection.execute("UPDATE customers SET stripe_customer_id = NULL WHERE customer_id <> 'c'")
    shown = metering("customers", "link", "--create")
    assert "nothing was changed" in shown.stderr
    assert linked(months) == {"c"}
    assert "2 customers linked, which an earlier run had created" in metering(*CREATE).stderr
    assert (linked(months), at_stripe(months)) == (set(NAMES), Counter(NAMES))


def test_of_whom_several_may_be_meant_none_is_created(months: Months, metering: CommandLine) -> None:
    customers = months.stripe.client.v1.customers
    for _ in range(2):
        customers.create({"metadata": {"metering_customer": "a"}})
    customers.create({"email": "b", "metadata": {"metering_customer": "other"}})
    ended = metering(*CREATE)
    assert "2 customers may be at Stripe already: see --from-stripe" in ended.stderr
    assert linked(months) == {"c"}
    assert at_stripe(months) == Counter({"a": 2, "other": 1, "c": 1})
