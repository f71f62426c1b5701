"""Linking customers: by our id in the metadata, or else by an e-mail; never where two could be meant."""

from metering.stripe.customer_links import CustomerLink, LinkReason, match_customers
from metering.stripe.snapshot import StripeCustomer


def customer(stripe_id: str, *, email: str | None = None, **metadata: str) -> StripeCustomer:
    return StripeCustomer(stripe_customer_id=stripe_id, email=email, name=None, metadata=metadata)


def links(*ours: str, theirs: list[StripeCustomer], taken: tuple[str, ...] = ()) -> list[CustomerLink]:
    return match_customers(unlinked=ours, taken=taken, stripe_customers=theirs)


def test_a_customer_is_known_by_our_id_under_any_of_the_keys() -> None:
    theirs = [
        customer("cus_1", metering_customer="a"),
        customer("cus_2", metering_customer_id="b"),
        customer("cus_3", customer_id="c"),
        customer("cus_4", other="d"),
    ]
    found = links("a", "b", "c", "d", theirs=theirs)
    assert [(each.customer_id, each.stripe_customer_id) for each in found] == [
        ("a", "cus_1"),
        ("b", "cus_2"),
        ("c", "cus_3"),
    ]
    assert {each.reason for each in found} == {LinkReason.METADATA}


def test_an_email_that_is_our_id_links_in_any_case_and_only_without_metadata() -> None:
    theirs = [
        customer("cus_1", email="Pay@Globex.example"),
        customer("cus_2", metering_customer="pay@globex.example"),
    ]
    (by_email,) = links("PAY@globex.example", theirs=theirs)
    assert (by_email.stripe_customer_id, by_email.reason) == ("cus_1", LinkReason.EMAIL)
    (by_metadata,) = links("pay@globex.example", theirs=theirs)
    assert (by_metadata.stripe_customer_id, by_metadata.reason) == ("cus_2", LinkReason.METADATA)


def test_of_two_that_could_be_meant_none_is_linked_and_both_are_named() -> None:
    theirs = [customer("cus_1", customer_id="a"), customer("cus_2", metering_customer="a")]
    (found,) = links("a", theirs=theirs)
    assert (found.stripe_customer_id, found.candidates) == (None, ("cus_1", "cus_2"))


def test_one_that_names_us_twice_is_one() -> None:
    (found,) = links("a", theirs=[customer("cus_1", customer_id="a", metering_customer="a")])
    assert found.stripe_customer_id == "cus_1"


def test_one_that_is_linked_to_another_of_ours_is_left_out() -> None:
    assert links("a", theirs=[customer("cus_1", customer_id="a")], taken=("cus_1",)) == []
