"""Meters a LiteLLM proxy, or its SDK: a LiteLLM callback that emits the three usage events.

In the proxy's configuration: `litellm_settings: callbacks: metering.inlets.litellm.proxy_logger`. With the SDK:
`litellm.callbacks = [MeteringLogger.from_environment()]`. No hook raises into LiteLLM, and none waits for the
network.
"""

import asyncio
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from metering.answers.tokens import warm_up
from metering.emitter import Emitter
from metering.inlets.guarded import guarded
from metering.inlets.litellm_answers import kept_chunks
from metering.inlets.litellm_attempts import Attempt, Attempts, key_of
from metering.inlets.litellm_calls import PASSED_THROUGH, REALTIME, details_of, open_stream, read_call
from metering.inlets.litellm_realtime import take_session
from metering.inlets.litellm_settings import LiteLLMSettings
from metering.inlets.litellm_watch import Watch
from metering.inlets.litellm_whole import take_whole

# LiteLLM calls its callbacks also for requests that it refused itself.
_NO_UPSTREAM = "litellm_no_upstream_llm_call"
# After the last token, the usage may take this long to come; as in the reference gateway.
_USAGE_SECONDS = 1.5
_END = object()
# A failed request is looked at this often until it is certain whose it was.
_TRIES, _TRY_SECONDS = 20, 0.25


class MeteringLogger(CustomLogger):  # type: ignore[misc]
    """The callback. Each request to an upstream is a stream of its own, also a retry or a fallback."""

    def __init__(self, *, emitter: Emitter, settings: LiteLLMSettings) -> None:
        super().__init__()
        self._emitter = emitter
        self._settings = settings
        self._attempts = Attempts()
        # By LiteLLM's logging object of a call.
        self._finalized: weakref.WeakSet[Any] = weakref.WeakSet()
        self._responses: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
        self._stream_ids: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._reading_on: set[asyncio.Future[None]] = set()
        warm_up()

    @classmethod
    def from_environment(cls) -> "MeteringLogger":
        """A logger with the settings of docs/gateways.md.

        Raises:
            LiteLLMConfigError: a variable is missing or wrong.
            SpoolError: the spool folder cannot be created or written.
        """
        settings = LiteLLMSettings.from_environment(os.environ)
        emitter = Emitter(url=settings.url, key=settings.key, source=settings.source, spool=settings.spool)
        return cls(emitter=emitter, settings=settings)

    async def watch(self, response: Any) -> AsyncGenerator[Any, None]:
        """The stream of `litellm.acompletion`, metered chunk by chunk. Leaving it early ends it as cancelled."""
        try:
            async with contextlib.aclosing(
                self.async_post_call_streaming_iterator_hook(None, response, {})
            ) as items:
                async for item in items:
                    yield item
        finally:
            await response.aclose()

    # An attempt begins.

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:  # noqa: ARG002
        self._end_with(kwargs.get("litellm_logging_obj"))

    @guarded
    def _end_with(self, logging_object: Any) -> None:
        """Have the attempt ended when LiteLLM forgets its call without a word."""
        details = details_of(logging_object)
        if details is None or logging_object in self._finalized:
            return
        self._finalized.add(logging_object)
        weakref.finalize(logging_object, self._attempts.dropped.append, key_of(details)).atexit = False

    @guarded
    def log_pre_api_call(self, model: Any, messages: Any, kwargs: dict[str, Any]) -> None:  # noqa: ARG002
        for attempt in self._attempts.left_over():
            if attempt.error is not None:
                self._fail(attempt, attempt.error)
            else:
                self._end(attempt, outcome="cancelled")
        if kwargs.get(_NO_UPSTREAM) or kwargs.get("call_type") == PASSED_THROUGH:
            # LiteLLM knows the model of these only at their end.
            return
        before = self._attempts.of(kwargs)
        if before is not None and before.call_type == REALTIME:
            # Each message of a session is announced like this.
            return
        if before is not None:
            # A retry or a fallback. Of how the attempt before it failed, LiteLLM tells later, or not at all.
            self._end(before, outcome="failed", error_type="retried")
        self._begin(kwargs, owed=0 if before is None else before.owed + 1)

    def _begin(self, details: dict[str, Any], *, owed: int) -> None:
        call = read_call(details, self._settings)
        stream = open_stream(self._emitter, call)
        stream.__enter__()
        self._attempts.add(Attempt(stream=stream, details=details, call=call, owed=owed))

    # A stream is passed on.

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
        **_: Any,
    ) -> dict[str, str] | None:
        return self._headers(data, response)

    @guarded
    def _headers(self, data: dict[str, Any], response: Any) -> dict[str, str] | None:
        """Keep LiteLLM's own wrapper of the stream: later hooks get it wrapped once more."""
        logging_object = data.get("litellm_logging_obj")
        details = details_of(logging_object)
        if details is None:
            return None
        if kept_chunks(response) is not None:
            self._responses[logging_object] = weakref.ref(response)
        attempt = self._attempts.of(details)
        stream_id = self._stream_ids.get(logging_object) if attempt is None else attempt.stream.stream_id
        return None if stream_id is None else {"x-metering-stream-id": stream_id}

    async def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: Any,  # noqa: ARG002
        response: Any,
        request_data: dict[str, Any],
    ) -> AsyncGenerator[Any, None]:
        watch = self._watch(response, request_data)
        items = aiter(response)
        if watch is None:
            async for item in items:
                yield item
            return
        pending: asyncio.Future[Any] | None = None
        try:
            while True:
                if watch.awaits_usage:
                    # Read in a task: a client that leaves now must not cut off the usage.
                    pending = pending or asyncio.ensure_future(_next_of(items))
                    item = await asyncio.shield(pending)
                    pending = None
                else:
                    item = await _next_of(items)
                if item is _END:
                    break
                self._take(watch, item)
                yield item
        except BaseException as error:
            await self._leave(watch, items, pending, error)
            raise
        self._finish(watch, None)

    @guarded
    def _watch(self, response: Any, request_data: dict[str, Any]) -> Watch | None:
        logging_object = request_data.get("litellm_logging_obj") or getattr(response, "logging_obj", None)
        details = details_of(logging_object)
        if details is None:
            return None
        own = self._responses.pop(logging_object, None)
        return Watch(attempts=self._attempts, details=details, response=(own and own()) or response)

    @guarded
    def _take(self, watch: Watch, item: Any) -> None:
        watch.take(item)

    @guarded
    def _finish(self, watch: Watch, error: BaseException | None) -> None:
        missing = None
        try:
            missing = watch.finish()
        finally:
            if watch.attempt is not None:
                is_cut = error is None and missing is not None
                self._end(watch.attempt, error, outcome="failed" if is_cut else None, error_type=missing)

    async def _leave(
        self, watch: Watch, items: AsyncIterator[Any], pending: asyncio.Future[Any] | None, error: BaseException
    ) -> None:
        """End a stream that has failed, or whose client has left; usage that is still to come is waited for."""
        if isinstance(error, Exception) or not watch.awaits_usage:
            self._finish(watch, error)
            return
        reading = asyncio.ensure_future(self._read_on(watch, items, pending, error))
        self._reading_on.add(reading)
        reading.add_done_callback(self._reading_on.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({reading})

    async def _read_on(
        self, watch: Watch, items: AsyncIterator[Any], pending: asyncio.Future[Any] | None, error: BaseException
    ) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_USAGE_SECONDS):
                while watch.awaits_usage:
                    item = await (pending or _next_of(items))
                    pending = None
                    if item is _END:
                        break
                    self._take(watch, item)
        self._finish(watch, error)

    # An attempt ends elsewhere.

    async def async_post_call_success_deployment_hook(
        self,
        request_data: dict[str, Any],
        response: Any,
        call_type: Any,  # noqa: ARG002
    ) -> None:
        logging_object = request_data.get("litellm_logging_obj")
        self._take_whole(details_of(logging_object), response, logging_object)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        if kwargs.get("call_type") == PASSED_THROUGH:
            self._begin_late(kwargs)
        self._take_whole(kwargs, response_obj)

    @guarded
    def _begin_late(self, details: dict[str, Any]) -> None:
        self._begin(details, owed=0)

    @guarded
    def _take_whole(self, details: Mapping[str, Any] | None, response: Any, logging_object: Any = None) -> None:
        """Meter an unstreamed answer, or a stream that was not watched, by what LiteLLM made of it."""
        attempt = None if details is None else self._attempts.find(details)
        if attempt is None or details is None or attempt.is_watched:
            return
        if logging_object is not None:
            self._stream_ids[logging_object] = attempt.stream.stream_id
        try:
            if attempt.call_type == REALTIME:
                take_session(attempt, response)
            else:
                take_whole(attempt, details, response)
        finally:
            self._end(attempt)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: Any,  # noqa: ARG002
        fallback_depth: int | None = None,  # noqa: ARG002
    ) -> None:
        details = details_of(request_data.get("litellm_logging_obj"))
        self._fail(None if details is None else self._attempts.of(details), exception)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,  # noqa: ARG002
        traceback_str: str | None = None,  # noqa: ARG002
    ) -> None:
        # LiteLLM has taken its logging object out of the data by then.
        attempt = self._attempts.only(request_data.get("litellm_call_id"))
        if attempt is not None:
            attempt.error = original_exception
            self._settle(attempt, _TRIES)

    @guarded
    def _settle(self, attempt: Attempt, tries: int) -> None:
        """End an attempt as failed once it is certain that its own request has: clients choose the call id."""
        if attempt.error is not None and (attempt.has_failed or self._attempts.is_dropped(attempt)):
            self._fail(attempt, attempt.error)
        elif tries:
            asyncio.get_running_loop().call_later(_TRY_SECONDS, self._settle, attempt, tries - 1)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    @guarded
    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        attempt = self._attempts.find(kwargs)
        if attempt is None or attempt.is_watched:
            return
        if attempt.owed:
            # It is of an attempt before, and has come when this one was under way.
            attempt.owed -= 1
            return
        attempt.has_failed = True
        if attempt.is_proxied:
            # The proxy may try again.
            return
        error = kwargs.get("exception")
        self._end(attempt, error if isinstance(error, Exception) else RuntimeError())

    @guarded
    def _fail(self, attempt: Attempt | None, error: Exception) -> None:
        if attempt is None or attempt.is_watched:
            return
        gone = getattr(error, "status_code", None) == 499
        self._end(attempt, outcome="cancelled" if gone else None, error=error)

    def _end(
        self,
        attempt: Attempt,
        error: BaseException | None = None,
        *,
        outcome: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """Emit the one stream-end of an attempt: with the outcome, or the one that follows from the error."""
        if not self._attempts.take(attempt):
            return
        if outcome is not None:
            attempt.stream.end(outcome, error_type=error_type)
        else:
            attempt.stream.__exit__(None if error is None else type(error), error, None)


async def _next_of(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


def __getattr__(name: str) -> MeteringLogger:
    """`proxy_logger` is made when it is first asked for, so that importing this module needs no settings."""
    if name != "proxy_logger":
        raise AttributeError(name)
    found = globals()["proxy_logger"] = MeteringLogger.from_environment()
    return found
