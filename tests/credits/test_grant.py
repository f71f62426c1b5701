"""Grants: which usage they may pay for, when, and in which order."""

from datetime import timedelta
from decimal import Decimal

from msgspec.structs import replace

from metering.credits.grant import Funding, Grant, GrantLimits, GrantState, drawing_order
from metering.credits.terms import GrantTerms, new_grant
from tests.credits.histories import T0

HOUR = timedelta(hours=1)


def active(name: str = "g", **changes: object) -> Grant:
    terms = GrantTerms(
        customer_id="acme",
        amount_usd_cents=Decimal(100),
        paid_usd_cents=Decimal(0),
        funding=Funding.NONE,
        reason="welcome",
    )
    grant = new_grant(terms, grant_id=name, by="test", now=T0)
    return replace(grant, **{"state": GrantState.ACTIVE, "balance_usd_cents": Decimal(100), **changes})


def test_a_limited_grant_pays_for_its_providers_and_models_only() -> None:
    limits = GrantLimits(providers=("openai",), models=("gpt-5.5", "gpt-5.5-pro"))
    assert limits.allow(provider="openai", model="gpt-5.5-pro")
    assert not limits.allow(provider="azure", model="gpt-5.5")
    assert not limits.allow(provider="openai", model="gpt-5")
    assert limits.limited


def test_an_entry_without_a_model_fits_no_limit() -> None:
    assert not GrantLimits(models=("gpt-5.5",)).allow(provider=None, model=None)
    assert GrantLimits().allow(provider=None, model=None)
    assert not GrantLimits().limited


def test_a_grant_pays_from_its_start_until_its_end_without_any_sweeper() -> None:
    grant = active(effective_from=T0 + HOUR, expires_at=T0 + 2 * HOUR)
    assert not grant.pays_at(T0)
    assert grant.pays_at(T0 + HOUR)
    assert not grant.pays_at(T0 + 2 * HOUR)
    assert grant.balance_at(T0 + 2 * HOUR) == 0


def test_only_an_active_grant_with_something_left_pays() -> None:
    assert active().pays_at(T0)
    assert not active(state=GrantState.PENDING).pays_at(T0)
    assert not active(state=GrantState.VOIDED).pays_at(T0)
    assert not active(balance_usd_cents=Decimal(0)).pays_at(T0)


def test_grants_pay_by_priority_then_the_first_to_expire_then_the_oldest() -> None:
    grants = [
        active("low", priority=900, expires_at=T0 + HOUR),
        active("never", created_at=T0 - HOUR),
        active("younger", expires_at=T0 + 9 * HOUR, created_at=T0),
        active("older", expires_at=T0 + 9 * HOUR, created_at=T0 - HOUR),
        active("soon", expires_at=T0 + HOUR),
        active("first", priority=0),
    ]
    assert [each.grant_id for each in sorted(grants, key=drawing_order)] == [
        "first",
        "soon",
        "older",
        "younger",
        "never",
        "low",
    ]
