"""The prober measures from outside how long the service is away, and how soon it works after a fault.

It posts one small stream after another to the API itself and repeats each until it is acknowledged. A second
thread waits until the newest acknowledged one is final.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2

from metering.lab.chaos.oracle import PROBE_INPUT, PROBE_OUTPUT
from metering.lab.chaos.traffic import PROVIDER

CUSTOMER = "chaos-prober"
# An answer that takes longer counts as none.
_TIMEOUT = 2.0
_PAUSE_SECONDS = 0.05
_POLL_SECONDS = 0.1


@dataclass(slots=True, kw_only=True)
class Probe:
    """One stream. Times are monotonic seconds; `failures` counts the attempts without a 200."""

    number: int
    began: float
    acknowledged: float | None = None
    final: float | None = None
    failures: int = 0

    @property
    def stream_id(self) -> str:
        """The id of its stream."""
        return f"probe-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The time in which nothing was acknowledged, in monotonic seconds: from the first failed attempt on."""

    began: float
    ended: float


@dataclass(slots=True)
class Prober:
    """Two threads from `start` to `stop`."""

    url: str
    key: str
    probes: list[Probe] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to probe."""
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._post_all, self._watch)]
        for thread in self._threads:
            thread.start()

    def stop(self, *, within: float) -> bool:
        """Stop once the current probe is acknowledged; returns whether it was, in time."""
        self._stopping.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def outages(self) -> Sequence[Outage]:
        """When nothing was acknowledged."""
        return [
            Outage(began=probe.began, ended=probe.acknowledged)
            for probe in self.probes
            if probe.failures and probe.acknowledged is not None
        ]

    def acknowledged_after(self, moment: float) -> float | None:
        """Seconds from a moment until a probe that began after it, or was under way, is acknowledged."""
        times = [each.acknowledged for each in self.probes if each.acknowledged is not None]
        return next((time - moment for time in times if time > moment), None)

    def final_after(self, moment: float) -> float | None:
        """Seconds from a moment until a probe that began after it is final."""
        times = [each.final for each in self.probes if each.began >= moment and each.final is not None]
        return min(times) - moment if times else None

    def _post_all(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT) as client:
            while not self._stopping.is_set():
                probe = Probe(number=len(self.probes), began=time.monotonic())
                body = _events(probe.stream_id, datetime.now(UTC))
                while not _is_accepted(client, body):
                    probe.failures += 1
                    time.sleep(_PAUSE_SECONDS)
                probe.acknowledged = time.monotonic()
                self.probes.append(probe)
                time.sleep(_PAUSE_SECONDS)

    def _watch(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        watched: Probe | None = None
        with httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT) as client:
            while not self._stopping.wait(_POLL_SECONDS):
                if watched is None or watched.final is not None:
                    watched = self.probes[-1] if self.probes else None
                if watched is not None and watched.final is None and _is_final(client, watched.stream_id):
                    watched.final = time.monotonic()


def _is_accepted(client: httpx2.Client, body: Sequence[dict[str, Any]]) -> bool:
    try:
        answer = client.post("/v1/events", json=body)
        return answer.status_code == 200 and answer.json()["accepted"] == len(body)
    except (httpx2.HTTPError, ValueError):
        return False


def _is_final(client: httpx2.Client, stream_id: str) -> bool:
    try:
        answer = client.get(f"/v1/streams/{CUSTOMER}/{stream_id}")
        return answer.status_code == 200 and bool(answer.json()["state"] == "finalized")
    except (httpx2.HTTPError, ValueError):
        return False


def _events(stream_id: str, at: datetime) -> list[dict[str, Any]]:
    common = {
        "specversion": "1.0",
        "source": "/gateways/prober",
        "subject": CUSTOMER,
        "time": at.isoformat(),
    }
    start = {"provider": PROVIDER, "model": "small", "input_tokens": PROBE_INPUT}
    usage = {"input_tokens": PROBE_INPUT, "output_tokens": PROBE_OUTPUT}
    end = {"outcome": "completed", "usage": usage, "usage_source": "provider"}
    return [
        {**common, "type": kind, "id": f"{stream_id}:{kind}", "data": {"stream_id": stream_id, **data}}
        for kind, data in (("stream-start", start), ("stream-end", end))
    ]
