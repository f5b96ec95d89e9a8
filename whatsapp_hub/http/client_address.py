"""Whose request it is: the peer's or, where the peer is a trusted proxy, whoever the proxy says.

``X-Forwarded-For`` can be written by anybody. Each proxy appends the address it saw, so from the right, the first hop
that is not a trusted proxy is the last one that a trusted proxy vouches for; what stands left of it is hearsay.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import hdrs, web

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOCAL: Final = IPv4Address("127.0.0.1")  # a peer on a Unix socket has no address
CACHED_ADDRESSES: Final = 4096
CACHED_HEADER_CHARS: Final = 200  # longer ones would make the cache's size the sender's choice
NETWORK_BITS: Final = 64  # what one IPv6 customer is usually given: rotating within it is no new address


def read_address(text: str) -> Address | None:
    """Read an address as peers and proxies write it, with a port or without; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # without its zone
    return address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether the address lies in one of the networks."""
    return any(address in network for network in networks)


def find_client(peer: Address, forwarded_for: str, trusted: Sequence[Network]) -> Address:
    """Return the right-most hop that is not a trusted proxy; the peer where the hops cannot be read."""
    if not forwarded_for or not is_within(peer, trusted):
        return peer
    client = peer
    for hop in reversed(forwarded_for.split(",")):
        address = read_address(hop)
        if address is None:
            return peer
        client = address
        if not is_within(client, trusted):
            break
    return client


def limit_key(address: Address) -> str:
    """Return what counts as one address: an IPv4 address, or the network that an IPv6 one belongs to."""
    if isinstance(address, IPv4Address):
        return str(address)
    host_bits = 128 - NETWORK_BITS
    return f"{IPv6Address(int(address) >> host_bits << host_bits)}/{NETWORK_BITS}"


class ClientAddresses:
    """Finds the client of a request, and remembers: the same few proxies and clients come all the time."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        """Believe ``X-Forwarded-For`` from peers within ``trusted`` only."""
        self._trusted = tuple(trusted)
        self._find = lru_cache(CACHED_ADDRESSES)(self._find_now)

    def of(self, request: web.BaseRequest) -> Address:
        """Return the client's address."""
        return self._look_up(request)[0]

    def key_of(self, request: web.BaseRequest) -> str:
        """Return what the client is counted as: its address, or its network where that is IPv6."""
        return self._look_up(request)[1]

    def _look_up(self, request: web.BaseRequest) -> tuple[Address, str]:
        peer = request.remote or ""
        # A proxy may have appended a line of its own to a header that the client wrote.
        forwarded_for = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())) if self._trusted else ""
        if len(forwarded_for) > CACHED_HEADER_CHARS:
            return self._find_now(peer, forwarded_for)
        return self._find(peer, forwarded_for)

    def _find_now(self, peer: str, forwarded_for: str) -> tuple[Address, str]:
        client = find_client(read_address(peer) or LOCAL, forwarded_for, self._trusted)
        return client, limit_key(client)
