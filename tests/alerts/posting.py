"""Posting with names and connections of ours, so that no test leaves this machine."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from httpcore2 import NetworkBackend, NetworkStream, SyncBackend

from metering.alerts.deliveries import Attempt
from metering.alerts.transport import WebhookTransport

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)


class Loopback(NetworkBackend):
    """Notes which address is connected to, and connects to the loopback instead."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> NetworkStream:
        self.asked.append(host)
        return SyncBackend().connect_tcp("127.0.0.1", port, *args, **options)


class Names:
    """A resolver with answers of ours, one after another; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, _: int, __: float) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def transport(**changes: Any) -> WebhookTransport:
    return WebhookTransport(**{"allow_private": True, "timeout": timedelta(seconds=5), **changes})


def post(sender: WebhookTransport, url: str) -> Attempt:
    return sender.post(url=url, headers={"webhook-id": "msg_1"}, body=b"{}", now=NOW)
