"""Names and encryption of what is kept, its pieces, and its settings."""

import pytest

from metering.gateway import GatewayConfigError
from metering.gateway.resume.copy import Copy, Kind
from metering.gateway.resume.sealing import SealError, Secret, new_owner, secret_of
from metering.gateway.resume.settings import ResumeSettings, read_resume_settings

_URL = "METERING_GATEWAY_RESUME_REDIS_URL"


def _secret(**changed: str) -> Secret:
    return secret_of(**{"resume_key": "a-random-secret-1", "client_key": "gk_1", "customer_id": "acme", **changed})


def test_the_same_keys_find_and_read_what_they_kept() -> None:
    owner = new_owner()
    sealed = _secret().seal(owner, 7, b"hello")
    assert _secret().place == _secret().place
    assert _secret().unseal(owner, 7, sealed) == b"hello"
    assert b"hello" not in sealed


@pytest.mark.parametrize("changed", ["resume_key", "client_key", "customer_id"])
def test_with_another_key_or_customer_nothing_is_found_or_read(changed: str) -> None:
    owner, other = new_owner(), _secret(**{changed: "something else entirely"})
    assert other.place.name != _secret().place.name
    with pytest.raises(SealError):
        other.unseal(owner, 1, _secret().seal(owner, 1, b"hello"))


def test_parts_of_the_keys_are_not_run_together() -> None:
    one, other = _secret(resume_key="ab", client_key="c"), _secret(resume_key="a", client_key="bc")
    assert one.place.name != other.place.name


def test_a_piece_can_be_opened_in_its_own_place_only() -> None:
    owner = new_owner()
    sealed = _secret().seal(owner, 1, b"hello")
    for wrong in ((owner, 2, sealed), (new_owner(), 1, sealed), (owner, 1, sealed[:-1]), (owner, 1, b"")):
        with pytest.raises(SealError):
            _secret().unseal(*wrong)


def test_the_same_piece_is_sealed_differently_each_time() -> None:
    owner = new_owner()
    assert _secret().seal(owner, 1, b"hello") != _secret().seal(owner, 1, b"hello")


class _Kept:
    """A copy, with what it has told."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.secret, self.owner, self.dropped = _secret(), new_owner(), ""
        self.changes = 0
        self.copy = Copy(
            secret=self.secret,
            owner=self.owner,
            max_bytes=max_bytes,
            on_change=self._change,
            on_drop=lambda _, why: setattr(self, "dropped", why or "nothing"),
        )

    def _change(self, _: Copy) -> None:
        self.changes += 1

    def pieces(self) -> list[tuple[int, Kind, bytes]]:
        """What it gives to be written, opened again."""
        opened = [(n, self.secret.unseal(self.owner, n, sealed)) for n, sealed in self.copy.take()]
        return [(number, Kind(content[0]), content[1:]) for number, content in opened]


def test_what_is_added_between_two_writes_is_one_piece() -> None:
    kept = _Kept()
    kept.copy.start(200, [(b"content-type", b"text/event-stream")])
    for part in (b"a", b"b", b"c"):
        kept.copy.add(part)
    [(first, kind, _), (second, body, content)] = kept.pieces()
    assert (first, kind, second, body, content) == (1, Kind.BEGINNING, 2, Kind.BODY, b"abc")
    kept.copy.add(b"d")
    kept.copy.end(b"e")
    assert kept.pieces() == [(3, Kind.BODY, b"de"), (4, Kind.END, b"")]
    assert kept.pieces() == []


def test_a_large_body_is_several_pieces() -> None:
    kept, body = _Kept(), bytes(range(256)) * 1_000
    kept.copy.add(body)
    pieces = kept.pieces()
    assert [number for number, _, _ in pieces] == [1, 2, 3, 4]
    assert b"".join(content for _, _, content in pieces) == body


def test_a_copy_that_is_too_large_is_dropped_and_takes_nothing_more() -> None:
    kept = _Kept(max_bytes=10)
    kept.copy.add(b"12345")
    kept.copy.add(b"123456")
    assert (kept.copy.is_kept, kept.dropped) == (False, "too_large")
    kept.copy.add(b"1")
    kept.copy.end()
    assert (kept.pieces(), kept.changes, kept.copy.has_ended) == ([], 1, False)


def test_an_error_is_not_kept() -> None:
    kept = _Kept()
    kept.copy.start(429, [])
    kept.copy.end(b"{}")
    assert (kept.copy.is_kept, kept.dropped, kept.pieces()) == (False, "nothing", [])


def test_an_answer_that_has_ended_is_not_dropped_any_more() -> None:
    kept = _Kept()
    kept.copy.end(b"all")
    kept.copy.drop("too_large")
    assert (kept.copy.is_kept, kept.dropped) == (True, "")
    assert kept.pieces() == [(1, Kind.BODY, b"all"), (2, Kind.END, b"")]


def test_without_a_valkey_resume_is_off() -> None:
    assert read_resume_settings({}) is None
    assert read_resume_settings({"METERING_GATEWAY_RESUME_KEEP_SECONDS": "60"}) is None


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "rediss://:pw@valkey.example", "unix:///run/valkey"])
def test_settings_are_read(url: str) -> None:
    assert read_resume_settings({_URL: url}) == ResumeSettings(url=url)
    names = (
        "KEEP_SECONDS",
        "WINDOW_SECONDS",
        "MAX_BYTES",
        "MAX_STREAMS",
        "MAX_STREAMS_PER_CUSTOMER",
        "TIMEOUT_SECONDS",
    )
    values = dict(zip(names, ("60", "5.5", "2048", "7", "3", "0.25"), strict=True))
    settings = read_resume_settings(
        {_URL: url, **{f"METERING_GATEWAY_RESUME_{name}": value for name, value in values.items()}}
    )
    assert settings == ResumeSettings(
        url=url,
        keep_seconds=60,
        window_seconds=5.5,
        max_bytes=2_048,
        max_streams=7,
        max_streams_per_customer=3,
        timeout_seconds=0.25,
    )
    assert "pw" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("REDIS_URL", "localhost:6379", "expected a URL such as redis://"),
        ("REDIS_URL", "http://:secret@x", "expected a URL such as redis://"),
        ("KEEP_SECONDS", "4", "expected at least 5"),
        ("KEEP_SECONDS", "soon", "expected a number of seconds"),
        ("WINDOW_SECONDS", "0", "expected a number of seconds above 0"),
        ("MAX_BYTES", "12", "expected a number from 1024"),
        ("MAX_STREAMS", "0", "expected a number from 1 to"),
        ("MAX_STREAMS_PER_CUSTOMER", "-1", "expected a number from 1 to"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, complaint: str) -> None:
    setting = f"METERING_GATEWAY_RESUME_{name}"
    with pytest.raises(GatewayConfigError, match=f"{setting}: {complaint}") as caught:
        read_resume_settings({_URL: "redis://127.0.0.1", setting: value})
    assert "secret" not in str(caught.value)
