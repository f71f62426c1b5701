"""Posts one batch over HTTP, reads the server's answer for each event, and waits before the next attempt."""

import gzip
import json
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from metering.emitter.cloudevents import json_array

_GZIP_FROM_BYTES = 4_096
_MAX_ANSWER_BYTES = 8 << 20
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 30.0
_MAX_RETRY_AFTER_SECONDS = 60.0
# Answers that a service, or what stands before it, gives for a while only.
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of posting a batch.

    `done`: the server has answered for every event; `rejected` has the reasons for rejected ones by index, and
    `warnings` says of accepted ones which fields the server does not know. The streams in `stop` have to end:
    their budget is exhausted. If not done, the batch is sent again; `misconfigured` means that a person has to
    change a setting first.
    """

    done: bool
    rejected: Mapping[int, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    stop: Sequence[str] = ()
    problem: str = ""
    retry_after: float | None = None
    misconfigured: bool = False


class Delivery:
    """The connection to one ingest API, for use by one thread."""

    def __init__(self, *, url: str, key: str | Callable[[], str], timeout: float) -> None:
        self._endpoint = f"{url.rstrip('/')}/v1/events"
        self._key = key
        if isinstance(key, str):
            _check_key(key)
        self._client = httpx2.Client(timeout=timeout, headers={"user-agent": "metering-emitter"})

    def close(self) -> None:
        self._client.close()

    def post(self, lines: Sequence[bytes]) -> Verdict:
        """Post the events. Failures of server and network are in the verdict, not raised."""
        if not lines:
            return Verdict(done=True)
        body = json_array(lines)
        headers = {"content-type": "application/cloudevents-batch+json"}
        try:
            headers["authorization"] = f"Bearer {current_key(self._key)}"
        except Exception as error:  # noqa: BLE001 - the caller's function; the events wait for the next try
            problem = f"the emitter's `key` cannot be read: {error}"
            return Verdict(done=False, problem=problem, misconfigured=True)
        if len(body) >= _GZIP_FROM_BYTES:
            body = gzip.compress(body, compresslevel=3)
            headers["content-encoding"] = "gzip"
        try:
            with self._client.stream("POST", self._endpoint, content=body, headers=headers) as response:
                answer = _read_bounded(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            return Verdict(done=False, problem=f"{self._endpoint} cannot be reached: {error!r}")
        if response.status_code == 413:
            return self._post_halves(lines)
        return self._judge(response, answer, len(lines))

    def _post_halves(self, lines: Sequence[bytes]) -> Verdict:
        """Post each half. A batch has 1,000 events, so this recurses ten times at most."""
        if len(lines) == 1:
            return Verdict(done=True, rejected={0: "413: this event alone is too large for the server"})
        middle = len(lines) // 2
        first = self.post(lines[:middle])
        if not first.done:
            return first
        second = self.post(lines[middle:])
        if not second.done:
            return second
        return Verdict(
            done=True,
            rejected={**first.rejected, **{middle + index: why for index, why in second.rejected.items()}},
            warnings=(*first.warnings, *second.warnings),
            stop=(*first.stop, *second.stop),
        )

    def _judge(self, response: httpx2.Response, answer: bytes, count: int) -> Verdict:
        status = response.status_code
        if status == 200:
            return Verdict(
                done=True, rejected=_rejections(answer, count), warnings=_warnings(answer), stop=_stop(answer)
            )
        if status == 422:
            named = _rejections(answer, count)
            overall = f"422: {answer[:300].decode(errors='replace')}"
            return Verdict(done=True, rejected={index: named.get(index, overall) for index in range(count)})
        problem, misconfigured = trouble_of(status, self._endpoint, serves="the ingest API")
        retry_after = None if misconfigured else _retry_after(response)
        return Verdict(done=False, problem=problem, retry_after=retry_after, misconfigured=misconfigured)


def trouble_of(status: int, endpoint: str, *, serves: str) -> tuple[str, bool]:
    """(problem, misconfigured) of a status other than the service's own answers: it passes, or a setting is wrong.

    `serves` is what the emitter's `url` should lead to.
    """
    problem = f"{status} from {endpoint}"
    if status in (401, 403):
        return f"{problem}: the emitter's `key` is wrong or lacks the role ingest", True
    if status >= 500 or status in _PASSING:
        return problem, False
    return f"{problem}: the emitter's `url` does not lead to {serves}", True


def current_key(key: str | Callable[[], str]) -> str:
    """The key to send now; a function is asked for it each time.

    Raises:
        ValueError: it has other characters than a key can have; also what the function raises.
    """
    if isinstance(key, str):
        return key
    found = key()
    _check_key(found)
    return found


def _check_key(key: str) -> None:
    """Refuse what cannot be sent in a header, such as the `…` of an example."""
    if not key.isascii() or not key.isprintable() or not key.strip():
        raise ValueError("key: expected a key as `metering keys create` prints it: mk_<id>_<secret>")


def _read_bounded(response: httpx2.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > _MAX_ANSWER_BYTES:
            raise httpx2.DecodingError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _rejections(answer: bytes, count: int) -> dict[int, str]:
    """The reasons by index in the batch, without malformed ones."""
    reasons: dict[int, str] = {}
    for item in _items(answer, "rejected"):
        if isinstance(index := item.get("index"), int) and 0 <= index < count:
            reasons[index] = f"{item.get('code', 'rejected')}: {item.get('detail', '')}"
    return reasons


def _warnings(answer: bytes) -> Sequence[str]:
    """Each different warning once: the events of a batch usually have the same."""
    told = (f"{item.get('field', '')}: {item.get('hint', '')}" for item in _items(answer, "warnings"))
    return tuple(dict.fromkeys(told))


def _stop(answer: bytes) -> Sequence[str]:
    """The ids of the streams that have to end."""
    # Most answers have none, and are not decoded once more.
    if b'"stop"' not in answer:
        return ()
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return ()
    streams = document.get("stop") if isinstance(document, dict) else None
    return tuple(each for each in streams if isinstance(each, str)) if isinstance(streams, list) else ()


def _items(answer: bytes, name: str) -> Sequence[Mapping[str, Any]]:
    """The objects of a list in the answer, without anything else that may be there."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return ()
    items = document.get(name) if isinstance(document, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds of either form of the Retry-After header; None without a valid one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


class Backoff:
    """The pauses between the attempts of one sender: exponential with jitter, or as the server asks."""

    def __init__(self, *, slow: float) -> None:
        self._slow = slow
        self._attempts = 0
        self._interrupted = threading.Event()

    def reset(self) -> None:
        """After a success: the next pause is short again."""
        self._attempts = 0

    def interrupt(self) -> None:
        """End the current pause, for a last attempt before exit."""
        self._interrupted.set()

    def wait(
        self, *, retry_after: float | None, misconfigured: bool, deadline: Callable[[], float | None]
    ) -> None:
        """Sleep before the next attempt, at most until the deadline (monotonic seconds), if there is one."""
        seconds = self._seconds(retry_after, misconfigured)
        limit = deadline()
        if limit is not None:
            # While closing, pauses are short and Retry-After is ignored.
            seconds = min(seconds, max(0.0, limit - time.monotonic()), 1.0)
            time.sleep(seconds)
            return
        self._interrupted.wait(seconds)

    def _seconds(self, retry_after: float | None, misconfigured: bool) -> float:
        if misconfigured:
            return self._slow
        if retry_after is not None:
            return min(retry_after, _MAX_RETRY_AFTER_SECONDS) * random.uniform(1.0, 1.2)
        self._attempts = min(self._attempts + 1, 20)
        ceiling = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._attempts - 1), _MAX_PAUSE_SECONDS)
        return random.uniform(0.5, 1.0) * ceiling
