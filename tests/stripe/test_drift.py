"""Drift: each way in which Stripe may differ is found, named, and given the remedy of docs/months.md."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.stripe.drift import (
    DriftClass,
    Finding,
    Remedy,
    choose,
    find_drift,
    is_as_wanted,
    line_changes,
    state_at_stripe,
)
from metering.stripe.push import INVOICE_MARK, LINE_MARK, PERIOD_MARK, Mark, PushState
from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeStatus
from tests.builders.snapshots import CREATED, snapshot_of, wanted_of

WANTED = wanted_of(70, 30)
FIRST, SECOND = snapshot_of(WANTED).lines
FINAL = {"status": StripeStatus.OPEN}
STATES = {StripeStatus.OPEN: PushState.FINAL, StripeStatus.PAID: PushState.PAID}


def manual(amount: int = 500, line_id: str = "il_9") -> SnapshotLine:
    return SnapshotLine(stripe_line_id=line_id, amount=amount, description="a fee", metadata={})


def there(*lines: SnapshotLine, **changes: Any) -> Snapshot:
    """At Stripe with these lines, which its subtotal sums."""
    found = snapshot_of(WANTED, lines=lines, subtotal=sum(line.amount for line in lines))
    return replace(found, **changes)


def drift(*snapshots: Snapshot, state: PushState = PushState.VERIFYING, keep: bool = False) -> list[Finding]:
    return find_drift(wanted=WANTED, state=state, snapshots=snapshots, keep_manual_lines=keep)


def classes(*snapshots: Snapshot, **options: Any) -> list[tuple[DriftClass, Remedy, int]]:
    """What is found but that a draft is on its way."""
    found = [(each.drift_class, each.remedy, each.cents) for each in drift(*snapshots, **options)]
    return [each for each in found if each != (DriftClass.STATE, Remedy.PUSH, 0)]


def test_what_is_as_it_should_be_has_no_drift() -> None:
    assert classes(snapshot_of(WANTED)) == []
    for status, state in STATES.items():
        assert drift(snapshot_of(WANTED, status=status), state=state) == []


def test_an_invoice_that_is_not_there_is_pushed() -> None:
    assert classes() == [(DriftClass.MISSING, Remedy.PUSH, -100)]


@pytest.mark.parametrize(
    ("snapshot", "found"),
    [
        (there(replace(FIRST, amount=75), SECOND), (DriftClass.LINE, Remedy.PUSH, 5)),
        (there(FIRST), (DriftClass.LINE, Remedy.PUSH, -30)),
        (there(FIRST, SECOND, manual()), (DriftClass.EXTRA_LINE, Remedy.PUSH, 500)),
        (
            there(FIRST, SECOND, replace(SECOND, stripe_line_id="il_8")),
            (DriftClass.DUPLICATE_LINE, Remedy.PUSH, 30),
        ),
        (there(FIRST, SECOND, stripe_customer_id="cus_2"), (DriftClass.WRONG_CUSTOMER, Remedy.PUSH, 0)),
        (there(FIRST, SECOND, currency="eur"), (DriftClass.WRONG_CURRENCY, Remedy.PUSH, 0)),
        (
            there(FIRST, SECOND, metadata={**WANTED.metadata, PERIOD_MARK: "2026-01"}),
            (DriftClass.WRONG_PERIOD, Remedy.PUSH, 0),
        ),
        (there(FIRST, SECOND, subtotal=101), (DriftClass.AMOUNT, Remedy.REPORT, 1)),
    ],
)
def test_a_draft_is_made_what_it_should_be(snapshot: Snapshot, found: tuple[DriftClass, Remedy, int]) -> None:
    assert classes(snapshot) == [found]
    assert not is_as_wanted(WANTED, snapshot, keep_manual_lines=False)


@pytest.mark.parametrize(
    ("snapshot", "found"),
    [
        (there(replace(FIRST, amount=75), SECOND), (DriftClass.LINE, Remedy.CREDIT_NOTE, 5)),
        (there(FIRST), (DriftClass.LINE, Remedy.ADJUSTMENT_INVOICE, -30)),
        (there(FIRST, SECOND, manual()), (DriftClass.EXTRA_LINE, Remedy.REPORT, 500)),
        (
            there(FIRST, SECOND, replace(SECOND, stripe_line_id="il_8")),
            (DriftClass.DUPLICATE_LINE, Remedy.CREDIT_NOTE, 30),
        ),
        (there(FIRST, SECOND, stripe_customer_id="cus_2"), (DriftClass.WRONG_CUSTOMER, Remedy.REPORT, 0)),
        (there(FIRST, SECOND, currency="eur"), (DriftClass.WRONG_CURRENCY, Remedy.REPORT, 0)),
        (
            there(FIRST, SECOND, metadata={**WANTED.metadata, PERIOD_MARK: "2026-01"}),
            (DriftClass.WRONG_PERIOD, Remedy.REPORT, 0),
        ),
        (there(FIRST, SECOND, credited=10), (DriftClass.AMOUNT, Remedy.ADJUSTMENT_INVOICE, -10)),
        (there(FIRST, SECOND, subtotal=110), (DriftClass.AMOUNT, Remedy.CREDIT_NOTE, 10)),
    ],
)
def test_of_a_finalized_one_the_difference_is_credited_or_billed_beside_it(
    snapshot: Snapshot, found: tuple[DriftClass, Remedy, int]
) -> None:
    final = replace(snapshot, **FINAL)
    assert classes(final, state=PushState.FINAL) == [found]
    assert all(each.finalized for each in drift(final, state=PushState.FINAL))


def test_lines_that_differ_but_come_to_the_same_are_no_drift_once_it_is_final() -> None:
    swapped = there(replace(FIRST, amount=30), replace(SECOND, amount=70), **FINAL)
    assert drift(swapped, state=PushState.FINAL) == []


def test_manual_lines_are_kept_when_that_is_wanted() -> None:
    draft = there(FIRST, SECOND, manual())
    assert classes(draft, keep=True) == []
    assert is_as_wanted(WANTED, draft, keep_manual_lines=True)
    assert drift(replace(draft, **FINAL), state=PushState.FINAL, keep=True) == []


def test_an_adjustment_invoice_makes_good_what_the_first_lacks() -> None:
    mark = Mark(environment="tests", invoice_id=WANTED.mark.invoice_id, adjustment=1)
    beside = there(
        manual(30),
        stripe_invoice_id="in_2",
        metadata={INVOICE_MARK: str(mark)},
        status=StripeStatus.OPEN,
    )
    assert drift(there(FIRST, **FINAL), beside, state=PushState.FINAL) == []


@pytest.mark.parametrize(
    ("status", "remedy", "cents"),
    [
        (StripeStatus.DRAFT, Remedy.DELETE_DRAFT, 0),
        (StripeStatus.OPEN, Remedy.REPORT, 100),
        (StripeStatus.PAID, Remedy.REPORT, 100),
    ],
)
def test_a_second_invoice_is_a_duplicate(status: StripeStatus, remedy: Remedy, cents: int) -> None:
    first = snapshot_of(WANTED, status=StripeStatus.OPEN)
    second = snapshot_of(WANTED, stripe_invoice_id="in_2", status=status, created_at=CREATED + timedelta(days=1))
    assert classes(second, first, state=PushState.FINAL) == [(DriftClass.DUPLICATE_INVOICE, remedy, cents)]


def test_a_second_invoice_that_is_void_is_none() -> None:
    void = snapshot_of(WANTED, stripe_invoice_id="in_2", status=StripeStatus.VOID)
    assert drift(snapshot_of(WANTED, **FINAL), void, state=PushState.FINAL) == []


@pytest.mark.parametrize(
    ("status", "state", "found"),
    [
        (StripeStatus.VOID, PushState.FINAL, (DriftClass.STATE, Remedy.REPORT)),
        (StripeStatus.VOID, PushState.VOID, (DriftClass.STATE, Remedy.REPORT)),
        (StripeStatus.PAID, PushState.FINAL, (DriftClass.SETTLEMENT, Remedy.ADOPT)),
        (StripeStatus.OPEN, PushState.PAID, (DriftClass.SETTLEMENT, Remedy.ADOPT)),
        (StripeStatus.UNCOLLECTIBLE, PushState.FINAL, (DriftClass.SETTLEMENT, Remedy.ADOPT)),
        (StripeStatus.OPEN, PushState.CREATING, (DriftClass.STATE, Remedy.ADOPT)),
        (StripeStatus.DRAFT, PushState.FINAL, (DriftClass.STATE, Remedy.PUSH)),
        (StripeStatus.DRAFT, PushState.LINING, (DriftClass.STATE, Remedy.PUSH)),
    ],
)
def test_another_state_there_is_adopted_pushed_or_reported(
    status: StripeStatus, state: PushState, found: tuple[DriftClass, Remedy]
) -> None:
    assert [
        (each.drift_class, each.remedy) for each in drift(snapshot_of(WANTED, status=status), state=state)
    ] == [found]


def test_every_status_but_a_draft_has_a_state_of_ours() -> None:
    assert [status for status in StripeStatus if state_at_stripe(status) is None] == [StripeStatus.DRAFT]


LINES = st.lists(
    st.builds(
        SnapshotLine,
        stripe_line_id=st.uuids().map(lambda each: f"il_{each.hex}"),
        amount=st.sampled_from([30, 70, 99]),
        description=st.none(),
        metadata=st.sampled_from([{}, {LINE_MARK: "foreign"}, FIRST.metadata, SECOND.metadata]),
    ),
    max_size=6,
)


@given(LINES)
def test_whatever_lines_a_draft_has_the_changes_make_it_what_it_should_be(lines: list[SnapshotLine]) -> None:
    changes = line_changes(WANTED, there(*lines), keep_manual_lines=False)
    amounts = {line.stripe_line_id: (line.metadata.get(LINE_MARK), line.amount) for line in lines}
    for line in changes.remove:
        del amounts[line.stripe_line_id]
    for was, line in changes.update:
        amounts[was.stripe_line_id] = (line.mark, line.amount)
    result = [*amounts.values(), *((line.mark, line.amount) for line in changes.add)]
    assert sorted(result) == sorted((line.mark, line.amount) for line in WANTED.lines)


@given(st.permutations(list(StripeStatus)))
def test_of_several_the_finalized_and_living_one_counts_whatever_their_order(order: list[StripeStatus]) -> None:
    snapshots = [snapshot_of(WANTED, stripe_invoice_id=f"in_{status}", status=status) for status in order]
    chosen, others = choose(snapshots)
    assert chosen is not None
    assert chosen.finalized
    assert chosen.status is not StripeStatus.VOID
    assert len(others) == len(order) - 1


def test_of_two_that_are_alike_the_older_counts() -> None:
    younger = snapshot_of(WANTED, stripe_invoice_id="in_0", created_at=CREATED + timedelta(days=1))
    assert choose([younger, snapshot_of(WANTED)])[0] == snapshot_of(WANTED)
    assert choose([]) == (None, ())
