"""Matching customers to Stripe's customers by metadata or e-mail, and only where the match is unique."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from metering.stripe.snapshot import StripeCustomer

# Metadata keys that may hold our customer id; the first is the one that we write.
METADATA_KEYS = ("metering_customer", "metering_customer_id", "customer_id")


class LinkReason(StrEnum):
    """What a customer was matched by."""

    METADATA = "metadata"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerLink:
    """A customer and the Stripe customers that match it; `stripe_customer_id` is None if several do.

    `is_ours`: the one that matches has the key that we write, so that we have created it.
    """

    customer_id: str
    stripe_customer_id: str | None
    reason: LinkReason
    candidates: tuple[str, ...]
    is_ours: bool = False

    @classmethod
    def created(cls, customer_id: str, stripe_customer_id: str) -> Self:
        """The link to the Stripe customer that was created for a customer."""
        return cls(
            customer_id=customer_id,
            stripe_customer_id=stripe_customer_id,
            reason=LinkReason.METADATA,
            candidates=(stripe_customer_id,),
            is_ours=True,
        )


def match_customers(
    *, unlinked: Iterable[str], taken: Iterable[str], stripe_customers: Sequence[StripeCustomer]
) -> list[CustomerLink]:
    """Match customers without a link: by our id in Stripe's metadata, else by an e-mail that equals our id.

    `taken` are the ids of Stripe customers that are linked already; they are left out.
    """
    used = set(taken)
    free = [each for each in stripe_customers if each.stripe_customer_id not in used]
    by_metadata = _by(free, lambda each: {each.metadata[key] for key in METADATA_KEYS if key in each.metadata})
    by_email = _by(free, lambda each: {each.email.lower()} if each.email else set())
    ours = {each.stripe_customer_id: each.metadata.get(METADATA_KEYS[0]) for each in free}
    links: list[CustomerLink] = []
    for customer_id in unlinked:
        for reason, candidates in (
            (LinkReason.METADATA, by_metadata.get(customer_id, ())),
            (LinkReason.EMAIL, by_email.get(customer_id.lower(), ())),
        ):
            if candidates:
                one = candidates[0] if len(candidates) == 1 else None
                links.append(
                    CustomerLink(
                        customer_id=customer_id,
                        stripe_customer_id=one,
                        reason=reason,
                        candidates=tuple(candidates),
                        is_ours=one is not None and ours[one] == customer_id,
                    )
                )
                break
    return links


def _by(
    customers: Sequence[StripeCustomer], names: Callable[[StripeCustomer], set[str]]
) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in customers:
        for name in names(each):
            found.setdefault(name, []).append(each.stripe_customer_id)
    return found
