"""Posting to a URL that a user chose: once, within a deadline, to checked addresses only, without redirects.

The name is resolved here, and the connection goes to the addresses that were checked, so that a name whose answer
changes a moment later (DNS rebinding) has no effect. Only the status and the Retry-After header of the answer are
read, not its body.
"""

import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import httpcore2
from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream, SyncBackend

from metering.alerts.addresses import InvalidUrlError, RefusedAddressError, Target, check_addresses, parse_url
from metering.alerts.deliveries import Attempt

# (host, port, seconds) -> addresses. Raises OSError when there is no address, TimeoutError when it takes too long.
Resolve = Callable[[str, int, float], Sequence[str]]

# The most addresses of a name that are tried.
_MAX_ADDRESSES = 4
_ERRNO = re.compile(r"\[Errno -?[0-9]+\] ?")
_MAX_PROBLEM = 500
_LOOKUPS = ThreadPoolExecutor(8, thread_name_prefix="webhook-names")


def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
    """The addresses of a host from the system's resolver; a thread adds the deadline that the resolver lacks."""
    lookup = _LOOKUPS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = lookup.result(timeout=seconds)
    finally:
        lookup.cancel()
    return list(dict.fromkeys(str(each[4][0]) for each in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTransport:
    """Posts messages. `resolve` and `network` are ports: one resolves names, the other connects."""

    allow_private: bool
    timeout: timedelta
    resolve: Resolve = resolve
    network: NetworkBackend = field(default_factory=SyncBackend)
    tls: ssl.SSLContext = field(default_factory=httpcore2.default_ssl_context)

    def post(self, *, url: str, headers: Mapping[str, str], body: bytes, now: datetime) -> Attempt:
        """Post once. Every failure at the receiver is returned as a problem and never raised."""
        try:
            target = parse_url(url, allow_private=self.allow_private)
            return self._post(target, headers, body, now)
        except (InvalidUrlError, RefusedAddressError) as error:
            return Attempt(problem=f"refused: {error}"[:_MAX_PROBLEM])
        except (TimeoutError, httpcore2.TimeoutException):
            return Attempt(problem=f"no answer within {self.timeout / timedelta(seconds=1):g} s")
        except (OSError, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            return Attempt(problem=f"no answer: {_in_words(error)}"[:_MAX_PROBLEM])

    def _post(self, target: Target, headers: Mapping[str, str], body: bytes, now: datetime) -> Attempt:
        backend = _CheckedNetwork(self, _Deadline(self.timeout))
        url = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        sent = [("host", target.authority), ("connection", "close"), *headers.items()]
        with (
            httpcore2.ConnectionPool(ssl_context=self.tls, network_backend=backend, max_connections=1) as pool,
            pool.stream("POST", url, headers=sent, content=body) as answer,
        ):
            return Attempt(
                status=answer.status,
                problem=None if 200 <= answer.status < 300 else f"answered {answer.status}",
                retry_after=_retry_after(answer.headers, now),
            )


class _Deadline:
    """One deadline for a whole attempt, so that a receiver cannot extend it by answering slowly."""

    def __init__(self, within: timedelta) -> None:
        self._ends_at = monotonic() + within / timedelta(seconds=1)

    def left(self) -> float:
        """The remaining seconds.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self._ends_at - monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _CheckedNetwork(NetworkBackend):
    """Connects only to addresses that were checked."""

    def __init__(self, transport: WebhookTransport, deadline: _Deadline) -> None:
        self._transport = transport
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline applies instead
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> NetworkStream:
        """A connection to the first address of the host that accepts one."""
        transport = self._transport
        answers = transport.resolve(host, port, self._deadline.left())
        addresses = check_addresses(host, answers, allow_private=transport.allow_private)[:_MAX_ADDRESSES]
        for address in addresses[:-1]:
            try:
                return self._connect(str(address), port)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(str(addresses[-1]), port)

    def _connect(self, address: str, port: int) -> NetworkStream:
        stream = self._transport.network.connect_tcp(address, port, timeout=self._deadline.left())
        return _DeadlineStream(stream, self._deadline)


class _DeadlineStream(NetworkStream):
    """A connection whose operations all end by the deadline, regardless of the timeout passed."""

    def __init__(self, stream: NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left())
        return _DeadlineStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _retry_after(headers: Sequence[tuple[bytes, bytes]], now: datetime) -> timedelta | None:
    """The delay that the receiver asks for; None when the header is missing or invalid."""
    text = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if text.isascii() and text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 10**6))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(at.replace(tzinfo=at.tzinfo or UTC) - now, timedelta())


def _in_words(error: Exception) -> str:
    """What went wrong, without the number that the operating system gives it."""
    return _ERRNO.sub("", str(error)) or type(error).__name__
