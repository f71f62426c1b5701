"""Actors: who is behind a change; as text, the name alone."""

import pytest

from metering.access.actors import Actor, actor_of, request_id_of


def test_an_actor_as_text_is_its_name() -> None:
    actor = Actor(name="key k1", door="api", address="192.0.2.7", request_id="req_1")
    assert f"set by {actor}" == "set by key k1"
    assert actor_of(actor) is actor


def test_what_runs_by_itself_has_a_name_only() -> None:
    assert actor_of("the schedule") == Actor(name="the schedule", door="service")


@pytest.mark.parametrize("strange", [None, "", "x" * 129, "a\nb", "ü", "\x1b[2J"])
def test_a_request_without_an_id_that_can_be_logged_gets_one(strange: str | None) -> None:
    made = {request_id_of(strange) for _ in range(3)}
    assert len(made) == 3
    assert all(each.startswith("req_") for each in made)


def test_the_clients_own_id_is_kept() -> None:
    assert request_id_of("trace-7") == "trace-7"
