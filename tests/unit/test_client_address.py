from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from whatsapp_hub.http.client_address import ClientAddresses, find_client, limit_key, read_address

PROXY = ip_address("10.0.0.1")
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_address_is_read_in_every_form_that_proxies_write(text: str, expected: str) -> None:
    assert read_address(text) == ip_address(expected)


@pytest.mark.parametrize(
    "text", ["", "unknown", "_hidden", "203.0.113.256", "203.0.113.7.9", "for=1.2.3.4", "1", "[", "::g"]
)
def test_garbage_is_no_address(text: str) -> None:
    assert read_address(text) is None


@given(st.text())
def test_no_text_makes_reading_an_address_fail(text: str) -> None:
    address = read_address(text)

    assert address is None or limit_key(address)


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("", "10.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the left one is what the client wrote
        ("198.51.100.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),  # nobody but proxies: the farthest
        ("203.0.113.7, fd00::2", "203.0.113.7"),
        ("203.0.113.7, unknown", "10.0.0.1"),
        ("203.0.113.7, ", "10.0.0.1"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, ::ffff:10.0.0.2", "198.51.100.1"),
    ],
)
def test_client_is_the_right_most_hop_that_no_trusted_proxy_is(forwarded_for: str, expected: str) -> None:
    assert find_client(PROXY, forwarded_for, TRUSTED) == ip_address(expected)


def test_header_of_an_untrusted_peer_is_not_believed() -> None:
    peer = ip_address("203.0.113.7")

    assert find_client(peer, "198.51.100.1", TRUSTED) == peer
    assert find_client(PROXY, "198.51.100.1", ()) == PROXY


def test_ipv6_counts_by_its_network_of_64_bits() -> None:
    assert limit_key(ip_address("2001:db8:1:2:3:4:5:6")) == "2001:db8:1:2::/64"
    assert limit_key(ip_address("2001:db8:1:2::")) == "2001:db8:1:2::/64"
    assert limit_key(ip_address("2001:db8:1:3::")) != "2001:db8:1:2::/64"
    assert limit_key(ip_address("203.0.113.7")) == "203.0.113.7"


def test_line_that_the_proxy_appended_wins_over_the_client_s_own() -> None:
    headers = CIMultiDict([("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.7")])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.1")

    assert ClientAddresses(TRUSTED).of(request) == ip_address("203.0.113.7")


def test_header_of_any_length_is_read_and_long_ones_are_not_remembered() -> None:
    addresses = ClientAddresses(TRUSTED)
    chain = ", ".join(["198.51.100.1"] * 500 + ["203.0.113.7"])
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": chain}).clone(remote="10.0.0.1")

    assert addresses.key_of(request) == "203.0.113.7"
    assert addresses._find.cache_info().currsize == 0


def test_peer_on_a_unix_socket_is_local() -> None:
    request = make_mocked_request("GET", "/").clone(remote="")

    assert ClientAddresses(()).of(request) == ip_address("127.0.0.1")
