"""Searching customers at the local Stripe: what is found, and that it is found late."""

import pytest
import stripe

from tests.lab.stripe_local.making import customer
from tests.local_stripe import LocalStripe


def found(there: LocalStripe, query: str) -> list[str]:
    """The names, newest first."""
    return [each.name or "" for each in there.client.v1.customers.search({"query": query}).data]


@pytest.fixture
def people(there: LocalStripe) -> LocalStripe:
    customer(there, name="Ann Lee", email="ann@lee.example", metadata={"plan": "pro", "a b": "it's"})
    customer(there, name="Bob Lee", email="bob@lee.example", metadata={"plan": "free"})
    customer(there, name='C. "Cat" Oh', email="cat@oh.example")
    return there


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("email:'ann@lee.example'", ["Ann Lee"]),
        ('email:"ANN@lee.example"', ["Ann Lee"]),
        ("name~'lee'", ["Bob Lee", "Ann Lee"]),
        ("name:'lee'", []),
        ("metadata['plan']:'pro'", ["Ann Lee"]),
        ("""metadata["a b"]:'it\\'s'""", ["Ann Lee"]),
        ("""name:"C. \\"Cat\\" Oh\"""", ['C. "Cat" Oh']),
        ("name~'lee' AND metadata['plan']:'free'", ["Bob Lee"]),
        ("name~'lee' metadata['plan']:'free'", ["Bob Lee"]),
        ("email:'cat@oh.example' OR metadata['plan']:'pro'", ['C. "Cat" Oh', "Ann Lee"]),
        ("name~'lee' and -metadata['plan']:'free'", ["Ann Lee"]),
        ("-metadata['plan']:null", ["Bob Lee", "Ann Lee"]),
        ("phone:null", ['C. "Cat" Oh', "Bob Lee", "Ann Lee"]),
    ],
)
def test_clauses_are_combined_by_and_or_by_or(people: LocalStripe, query: str, names: list[str]) -> None:
    assert found(people, query) == names


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "empty"),
        ("ann", "unable to parse"),
        ("name:'Ann' AND", "unable to parse"),
        ("name:'Ann'email:'x'", "unable to parse"),
        ("name:'Ann' AND email:'x' OR name:'b'", "AND and OR"),
        ("colour:'red'", "unsupported search field"),
        ("metadata:'red'", "unsupported search field"),
        ("name['x']:'red'", "unsupported search field"),
        ("metadata['plan']~'pro'", "can not be used"),
        ("name~'an'", "at least 3"),
    ],
)
def test_what_is_no_query_is_refused(people: LocalStripe, query: str, problem: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=problem):
        found(people, query)


def test_results_come_by_the_page(there: LocalStripe) -> None:
    made = [customer(there, name=f"Lee {number}") for number in range(25)]
    first = there.client.v1.customers.search({"query": "name~'lee'", "limit": 10, "expand": ["total_count"]})
    assert (len(first.data), first.has_more, first.total_count) == (10, True, 25)
    assert first.next_page is not None
    assert [each.id for each in first.auto_paging_iter()] == made[::-1]
    last = there.client.v1.customers.search({"query": "name~'lee'", "limit": 25})
    assert (last.has_more, last.next_page) == (False, None)
    with pytest.raises(stripe.InvalidRequestError, match="Invalid page"):
        there.client.v1.customers.search({"query": "name~'lee'", "page": "next"})


def test_a_search_lags_behind_what_was_made_and_changed(there: LocalStripe) -> None:
    who = customer(there, name="Before")
    there.control.delay_search(seconds=60)
    there.client.v1.customers.update(who, {"name": "After"})
    customer(there, name="New one")
    there.control.advance_clock(seconds=30)
    assert found(there, "name:'After' OR name:'New one'") == []
    assert there.client.v1.customers.retrieve(who).name == "After"
    there.control.advance_clock(seconds=61)
    assert found(there, "name:'After' OR name:'New one'") == ["New one", "After"]
    assert found(there, "name:'Before'") == []
    there.control.remove(who)
    assert found(there, "name:'After'") == []


def test_a_changed_customer_is_found_as_it_was_until_the_change_is_seen(there: LocalStripe) -> None:
    who = customer(there, name="Before")
    there.control.delay_search(seconds=60)
    there.control.advance_clock(seconds=61)
    for name in ("Between", "After"):
        there.client.v1.customers.update(who, {"name": name})
    assert found(there, "name:'Before'") == ["Before"]
    there.control.edit(who, {"name": "Edited"})
    there.control.advance_clock(seconds=61)
    assert found(there, "name~'edit'") == ["Edited"]
    assert found(there, "name:'Before' OR name:'Between' OR name:'After'") == []
