"""The URLs and addresses that webhooks may be sent to: public ones only, however an address is written.

A defence against server-side request forgery: https://owasp.org/www-community/attacks/Server_Side_Request_Forgery.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from metering.core.errors import MeteringError

MAX_URL = 2_048
_HTTPS_PORT, _HTTP_PORT = 443, 80
# Lower ports belong to system services; webhook receivers do not use them, except for HTTPS.
_FIRST_FREE_PORT = 1_024

Address = IPv4Address | IPv6Address


class InvalidUrlError(MeteringError):
    """An endpoint's URL is not allowed; the message says why."""


class RefusedAddressError(MeteringError):
    """A name resolves to an address that is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The parts of a URL; `host` is a name, or an address without brackets."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def scheme(self) -> str:
        """The URL's scheme."""
        return "https" if self.tls else "http"

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (_HTTPS_PORT if self.tls else _HTTP_PORT) else f"{host}:{self.port}"


# IPv4: the special-purpose addresses of https://www.iana.org/assignments/iana-ipv4-special-registry, and addresses
# of cloud metadata services.
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# IPv6: global unicast only, which excludes mapped (::ffff:0:0/96) and translated (64:ff9b::/96) IPv4 addresses,
# and unique local, link-local and multicast addresses. Tunnels to IPv4 and documentation addresses are inside it.
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


# METERING_WEBHOOKS_ALLOW_PRIVATE also allows these networks, except addresses that serve credentials.
_PRIVATE = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
_CREDENTIALS = (ip_address("100.100.100.200"), ip_address("fd00:ec2::254"))


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Whether webhooks may be sent to an address: public, or private where that is allowed."""
    if is_public(address):
        return True
    return allow_private and address not in _CREDENTIALS and any(address in network for network in _PRIVATE)


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)
    in_public = address.is_global and address in _PUBLIC_V6 and address.scope_id is None
    return in_public and not any(address in network for network in _NOT_PUBLIC_V6)


def check_addresses(host: str, answers: Sequence[str], *, allow_private: bool) -> Sequence[Address]:
    """The addresses that a name resolved to, after checking that all of them are allowed.

    Raises:
        RefusedAddressError: there is no address, or one is not allowed. A mixture is refused as a sign of DNS
        rebinding.
    """
    addresses = [ip_address(answer) for answer in answers]
    if not addresses:
        raise RefusedAddressError(f"{host} has no address")
    for address in addresses:
        if not is_allowed(address, allow_private=allow_private):
            raise RefusedAddressError(f"{host}: {_refusal(address)}")
    return addresses


def _refusal(address: Address) -> str:
    hint = ": METERING_WEBHOOKS_ALLOW_PRIVATE would allow it" if is_allowed(address, allow_private=True) else ""
    return f"{address} is not a public address{hint}"


_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)
# A host that ends in a number is an IPv4 address: https://url.spec.whatwg.org/#ends-in-a-number-checker
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)


def parse_url(url: str, *, allow_private: bool) -> Target:
    """The parts of an endpoint's URL: https to a public host, or with `allow_private` also http and private hosts.

    Raises:
        InvalidUrlError: names what was expected.
    """
    if len(url) > MAX_URL or not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise InvalidUrlError(
            f"url: expected up to {MAX_URL:,} visible ASCII characters; write other characters as xn-- or %"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidUrlError(f"url: {error}") from error
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_private):
        raise InvalidUrlError("url: expected https://…; METERING_WEBHOOKS_ALLOW_PRIVATE would allow http as well")
    if "@" in parts.netloc or "#" in url:
        raise InvalidUrlError("url: expected no user, no password and no fragment")
    _check_host(host, allow_private)
    tls = parts.scheme == "https"
    if port is None:
        port = _HTTPS_PORT if tls else _HTTP_PORT
    if not port or (not allow_private and port != _HTTPS_PORT and port < _FIRST_FREE_PORT):
        raise InvalidUrlError(f"url: expected port {_HTTPS_PORT}, or {_FIRST_FREE_PORT:,} and above, got {port}")
    path = parts.path or "/"
    return Target(tls=tls, host=host, port=port, path=f"{path}?{parts.query}" if parts.query else path)


def _check_host(host: str, allow_private: bool) -> None:
    try:
        address: Address | None = ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        if not is_allowed(address, allow_private=allow_private):
            raise InvalidUrlError(f"url: {_refusal(address)}")
    elif len(host) > 253 or not _NAME.fullmatch(host) or _ENDS_IN_NUMBER.fullmatch(host):
        raise InvalidUrlError(f"url: {host!r} is not a host name: expected one such as hooks.example.com")
