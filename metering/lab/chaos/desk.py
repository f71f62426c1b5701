"""The desk: a thread that sets budgets, raises them, and makes, voids and refunds grants while a run goes on."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2

from metering.core.clock import utc_now
from metering.lab.bench.stage import BenchFailedError
from metering.lab.chaos.terms import (
    CUSTOMERS,
    DEPLOYMENT_BUDGET,
    Terms,
    budgets_of,
    deployment_budget,
    grant_of,
)

_EVERY_SECONDS = 1.0
# A budget of the deployment sums all that was booked before it.
_TIMEOUT_SECONDS = 60.0
_PAUSE_SECONDS, _PATIENCE_SECONDS = 0.2, 300.0
_SHORT_SECONDS = 4.0
# In every so many turns, the deployment has a budget from the first one on, until it is ended.
_TURNS, _DEPLOYMENT_TURNS = 60, 6
# A grant is voided or refunded after so many others.
_ENDED_AFTER = 5
_RAISED = (Terms.TIGHT, Terms.GATEWAY)


@dataclass(slots=True)
class Desk:
    """Works from `start` to `stop`, for clients that begin `pace` streams a second.

    `done` counts what the API confirmed.
    """

    url: str
    key: str
    pace: int
    done: Counter[str] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _grants: list[str] = field(default_factory=list)
    _taken: dict[str, int] = field(default_factory=dict)

    def open(self) -> None:
        """Make the customers, their budgets and their first grants.

        Raises:
            BenchFailedError: the API refuses.
        """
        with self._client() as client:
            for customer in CUSTOMERS:
                self._send(client, "PUT", f"/v1/customers/{customer.customer_id}", {"name": customer.customer_id})
            self._turn(client, 0)

    def start(self) -> None:
        """Begin the work."""
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the current turn, and end the budget of the deployment."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._client() as client:
            self._send(client, "PUT", f"/v1/budgets/{DEPLOYMENT_BUDGET}", deployment_budget())
            self._send(client, "DELETE", f"/v1/budgets/{DEPLOYMENT_BUDGET}", None)

    def _work(self) -> None:
        turn = 1
        with self._client() as client:
            while not self._stopping.wait(_EVERY_SECONDS):
                self._turn(client, turn)
                turn += 1

    def _turn(self, client: httpx2.Client, turn: int) -> None:
        for customer in CUSTOMERS:
            if turn and customer.terms not in _RAISED:
                continue
            taken = self._taken.get(customer.customer_id, 0)
            for budget_id, budget in budgets_of(customer, raised=turn, pace=self.pace, taken=taken).items():
                standing = self._send(client, "PUT", f"/v1/budgets/{budget_id}", budget)
                now_taken = Decimal(standing["spent_usd_cents"]) + Decimal(standing["held_usd_cents"])
                self._taken[customer.customer_id] = max(taken, int(now_taken))
        if turn % _TURNS == 1:
            self._send(client, "PUT", f"/v1/budgets/{DEPLOYMENT_BUDGET}", deployment_budget())
        if turn % _TURNS == _DEPLOYMENT_TURNS:
            self._send(client, "DELETE", f"/v1/budgets/{DEPLOYMENT_BUDGET}", None)
        self._give(client, turn)

    def _give(self, client: httpx2.Client, turn: int) -> None:
        """A grant for some of the customers, and the end of an older one."""
        now = utc_now()
        for place, customer in enumerate(CUSTOMERS):
            grant = grant_of(
                customer,
                number=turn + place,
                pace=self.pace,
                in_an_hour=(now + timedelta(hours=1)).isoformat(),
                in_seconds=(now + timedelta(seconds=_SHORT_SECONDS)).isoformat(),
            )
            # At the beginning all of them, and then each in its turn.
            if grant is None or (turn and (turn + place) % 4):
                continue
            made = self._send(client, "POST", "/v1/grants", grant, key=f"grant-{turn}-{place}")
            self._grants.append(made["grant_id"])
        if turn and turn % _ENDED_AFTER == 0:
            grant_id = self._grants[-_ENDED_AFTER if len(self._grants) > _ENDED_AFTER else 0]
            end = "void" if turn % 2 else "refund"
            self._send(client, "POST", f"/v1/grants/{grant_id}/{end}", {"reason": "chaos"}, key=f"end-{turn}")

    def _client(self) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT_SECONDS)

    def _send(
        self, client: httpx2.Client, method: str, path: str, body: Mapping[str, Any] | None, *, key: str = ""
    ) -> Any:
        """Send a request until it is answered. A grant that is used up, or promotional, is not refunded."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        problem = ""
        while time.monotonic() < deadline:
            try:
                answer = client.request(method, path, json=body, headers={"idempotency-key": key} if key else {})
            except httpx2.HTTPError as error:
                problem = repr(error)
            else:
                if answer.is_success:
                    self.done[f"{method} {path.split('/')[2]}"] += 1
                    return answer.json() if answer.content else None
                problem = answer.text
                if path.endswith("/refund") and answer.status_code in (409, 422):
                    return None
            time.sleep(_PAUSE_SECONDS)
        raise BenchFailedError(f"{method} {path} was not done: {problem}")
