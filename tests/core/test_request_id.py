"""Ids of requests: the client's own, if it is safe wherever it is written, or a new one."""

import pytest

from metering.core.request_id import current_request_id, request_id_of


@pytest.mark.parametrize("strange", [None, "", "x" * 129, "a\nb", "ü", "\x1b[2J", "a b", "<b>", '"'])
def test_a_request_without_an_id_that_is_safe_gets_one(strange: str | None) -> None:
    made = {request_id_of(strange) for _ in range(3)}
    assert len(made) == 3
    assert all(each.startswith("req_") for each in made)


@pytest.mark.parametrize("own", ["trace-7", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
def test_the_clients_own_id_is_kept(own: str) -> None:
    assert request_id_of(own) == own


def test_there_is_none_outside_of_requests() -> None:
    assert current_request_id() is None
