from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from whatsapp_hub.assistants.guard import AddressRefusedError, GuardingResolver, find_url_fault, is_allowed

NOT_PUBLIC = [
    "127.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "not an address",
    "",
]
PUBLIC = ["8.8.8.8", "157.240.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


class Names(AbstractResolver):
    """Knows one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        self.addresses = ()


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_inside_addresses_are_refused(address: str) -> None:
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, ())


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_an_operator_may_open_a_net(address: str) -> None:
    nets = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert is_allowed(address, nets)
    assert not is_allowed("10.2.0.1", nets)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/v1",
        "https://127.0.0.1./v1",
        "https://[::1]/v1",
        "https://[::ffff:127.0.0.1]/v1",
        "https://[fe80::1%25eth0]/v1",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/v1",
        "https://0x7f000001/v1",
        "https://0x7f.1/v1",
        "https://0177.0.0.1/v1",
        "https://127.1/v1",
        "https://①②⑦.⓪.⓪.①/v1",
    ],
)
def test_literal_addresses_inside_are_refused_in_every_notation(url: str) -> None:
    assert find_url_fault(url, ()) == "leads to an address that is not public"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://api.example.com/v1", "has to begin with https://"),
        ("file:///etc/passwd", "has to begin with https://"),
        ("api.example.com", "has to begin with https://"),
        ("", "has to begin with https://"),
        ("https:///v1", "names no host"),
        ("https://user:pass@api.example.com/v1", "must not carry a user name or password"),
        ("https://host:99999/", "is not a URL"),
        ("https://[::1", "is not a URL"),
    ],
)
def test_other_urls_that_cannot_be_used_are_refused(url: str, fault: str) -> None:
    assert find_url_fault(url, ()) == fault


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "https://8.8.8.8/v1", "https://[2606:4700::1]:8443/v1"])
def test_public_urls_are_let_through(url: str) -> None:
    assert find_url_fault(url, ()) is None


def test_a_literal_address_in_an_open_net_is_let_through() -> None:
    assert find_url_fault("https://10.1.2.3:8443/v1", (ip_network("10.0.0.0/8"),)) is None


async def test_a_name_is_resolved_if_all_its_addresses_are_public() -> None:
    resolver = GuardingResolver((), Names("8.8.8.8", "2606:4700::1"))
    assert [entry["host"] for entry in await resolver.resolve("api.example.com")] == ["8.8.8.8", "2606:4700::1"]


async def test_one_inside_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(AddressRefusedError):
        await GuardingResolver((), Names("8.8.8.8", "10.0.0.1")).resolve("api.example.com")


async def test_closing_closes_the_resolver_inside() -> None:
    names = Names("8.8.8.8")
    await GuardingResolver((), names).close()
    assert names.addresses == ()
