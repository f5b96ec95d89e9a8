"""Where a URL of a business's document may lead: to public addresses over https, and nowhere inside.

A literal address is looked at in the URL. A name is looked at when the connector resolves it: the addresses that were
checked are the ones it connects to, so a name that changes its mind in between changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import DefaultResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Networks = Sequence[IPv4Network | IPv6Network]

_GLOBAL_UNICAST: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")


class AddressRefusedError(OSError):
    """A name leads to an address that is not public."""


class GuardingResolver(AbstractResolver):
    """Resolves a name only if every one of its addresses may be reached."""

    def __init__(
        self, allow_nets: Networks, resolver: AbstractResolver | None = None, *, free_host: str | None = None
    ) -> None:
        """Resolve with the system's resolver, or this one. ``free_host``, which the operator named, may be anywhere."""
        self._allow_nets = allow_nets
        self._free_host = free_host
        self._resolver = resolver or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses. Raises ``AddressRefusedError`` if one of them is not public."""
        found = await self._resolver.resolve(host, port, family)
        if host != self._free_host and not all(is_allowed(entry["host"], self._allow_nets) for entry in found):
            raise AddressRefusedError("the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        """Close the resolver that does the work."""
        await self._resolver.close()


def find_url_fault(url: str, allow_nets: Networks) -> str | None:
    """Return what keeps a document's URL from being used, in words, or None. Names are resolved later."""
    try:
        parsed = URL(url)
    except ValueError:
        return "is not a URL"
    if parsed.scheme != "https":
        return "has to begin with https://"
    if not parsed.host:
        return "names no host"
    if parsed.user is not None or parsed.password is not None:
        return "must not carry a user name or password"
    if _is_number(parsed.host) and not is_allowed(parsed.host, allow_nets):
        return "leads to an address that is not public"
    return None


def is_allowed(address: str, allow_nets: Networks) -> bool:
    """Tell whether an address is public or in one of these networks. What is no proper address is not."""
    try:
        ip = _unwrap(ip_address(address))
    except ValueError:
        return False
    if any(ip in net for net in allow_nets):
        return True
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast


def _unwrap(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that a mapped, translated or tunnelled one stands for."""
    if isinstance(ip, IPv6Address):
        if ip in _NAT64:
            return IPv4Address(ip.packed[-4:])
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def _is_number(host: str) -> bool:
    """Tell whether a host is an address in any notation, also those that only C libraries know (2130706433)."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last.isdigit() or last.lower().startswith("0x")
