"""Actors: who is behind a change; as text, the name alone."""

from metering.access.actors import Actor, actor_of


def test_an_actor_as_text_is_its_name() -> None:
    actor = Actor(name="key k1", door="api", address="192.0.2.7", request_id="req_1")
    assert f"set by {actor}" == "set by key k1"
    assert actor_of(actor) is actor


def test_what_runs_by_itself_has_a_name_only() -> None:
    assert actor_of("the schedule") == Actor(name="the schedule", door="service")
