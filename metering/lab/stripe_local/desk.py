"""The desk: takes a request through limit, description, fault, key and operation to its answer."""

import asyncio
from collections import deque
from typing import Any

from metering.lab.stripe_local import invoices
from metering.lab.stripe_local.description import Operation, coerce
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.faults import (
    Fault,
    Faults,
    PlannedFault,
    internal_error,
    raise_before,
    raise_throttle,
)
from metering.lab.stripe_local.handlers import HANDLERS, Handler
from metering.lab.stripe_local.idempotency import Answer, KeyedAnswers, fingerprint
from metering.lab.stripe_local.limits import RateLimits
from metering.lab.stripe_local.store import Document, Store

_MAX_REQUESTS = 10_000


class LostError(Exception):
    """No answer goes out: the connection is closed."""


class Desk:
    """Answers one request after another; each changes what it changes at once, or nothing."""

    def __init__(self, store: Store, limits: RateLimits) -> None:
        self.store = store
        self.limits = limits
        self.keys = KeyedAnswers(store)
        self.faults = Faults()
        self.requests: deque[Document] = deque(maxlen=_MAX_REQUESTS)

    async def answer(
        self, operation: Operation, path: dict[str, str], form: Document, key: str | None
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is an earlier one.

        Raises:
            LostError: a fault says that none goes out.
        """
        record: Document = {"endpoint": operation.endpoint, "path": path, "idempotency_key": key, "params": form}
        record["fault"] = None
        self.requests.append(record)
        planned: PlannedFault | None = None
        try:
            self.limits.take(operation.endpoint)
            planned = self.faults.take(operation.endpoint)
            if planned is not None:
                record["fault"] = planned.fault.value
                await self._wait(planned, key)
            answer, replayed = self._answer(operation, path, form, key, planned)
        except RefusedError as error:
            answer, replayed = Answer(error.status, error.document(), error.headers), False
        record |= {"status": answer.status, "replayed": replayed}
        if planned is not None and planned.fault in (Fault.LOST_REQUEST, Fault.LOST_REPLY):
            raise LostError
        return answer, replayed

    async def _wait(self, planned: PlannedFault, key: str | None) -> None:
        if planned.fault is Fault.SLOW:
            with self.keys.held(key):
                await asyncio.sleep(planned.seconds)

    def _answer(
        self,
        operation: Operation,
        path: dict[str, str],
        form: Document,
        key: str | None,
        planned: PlannedFault | None,
    ) -> tuple[Answer, bool]:
        handler = HANDLERS.get(operation.endpoint)
        if handler is None:
            message = f"the local Stripe does not do {operation.endpoint}"
            raise RefusedError(message, status=501, kind="api_error", kept=False)
        fault = planned.fault if planned else None
        if fault is Fault.LOST_REQUEST:
            return Answer(0, {}), False
        raise_throttle(fault)
        params = coerce(form, operation.schema, "")
        if key is None or operation.method != "POST":
            with self.store.atomic():
                return self._carry_out(handler, path, params, planned), False
        request = fingerprint(operation.endpoint, path, form)
        earlier = self.keys.earlier(key, request)
        if earlier is not None:
            return earlier, True
        try:
            with self.store.atomic():
                answer = self._carry_out(handler, path, params, planned)
                self.keys.keep(key, request, answer)
            return answer, False
        except RefusedError as error:
            if error.kept:
                with self.store.atomic():
                    self.keys.keep(key, request, Answer(error.status, error.document()))
            raise

    def _carry_out(
        self, handler: Handler, path: dict[str, str], params: Document, planned: PlannedFault | None
    ) -> Answer:
        raise_before(planned)
        document = invoices.shown(self.store, handler(self.store, path, params))
        if planned is not None and planned.fault is Fault.ERROR_AFTER:
            return Answer(500, internal_error().document())
        return Answer(200, document)

    def reset(self) -> None:
        """Forget everything, and be as at first."""
        self.store.reset()
        self.faults.clear()
        self.limits.reset()
        self.requests.clear()


def describe_requests(desk: Desk) -> list[Any]:
    """What was asked, oldest first."""
    return list(desk.requests)
