"""The nginx that is shipped, in front of a stand-in: what it lets through, what it writes down, whom it stops."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import aiohttp
import orjson
import pytest

from tests.deploy.front import (
    CONFIG,
    PATH,
    Front,
    ask,
    ask_by,
    client_of,
    in_pieces,
    open_front,
    run_nginx,
    whole,
    write_front,
)
from tests.deploy.stand_in import StandIn, open_stand_in
from tests.faults.clients import head, name_address, open_slow
from tests.faults.hubs import choose_port
from tests.hub import until
from whatsapp_hub.http.body import MAX_BODY_BYTES
from whatsapp_hub.server import KEEPALIVE_TIMEOUT_S

#: The times for slow clients, shrunk.
QUICK: Final = {
    "client_header_timeout 10s;": "client_header_timeout 1s;",
    "client_body_timeout 5s": "client_body_timeout 1s",
}


# The file


@pytest.mark.parametrize("switches", [(), ("lb",), ("mtls",), ("api",), ("lb", "mtls", "api")], ids="-".join)
async def test_every_form_of_the_file_is_one_that_nginx_takes(tmp_path: Path, switches: Sequence[str]) -> None:
    front = write_front([1], tmp_path / "nginx", switches=switches)
    shutil.copy(front.authority.path, front.home / "tls" / "meta-outbound-api-ca.pem")
    check = run_nginx(front.home, "-t")
    assert check.returncode == 0, check.stderr
    assert "[warn]" not in check.stderr


@pytest.mark.parametrize("name", ["hubs.compose.conf", "hubs.kubernetes.conf"])
async def test_hubs_can_be_named_by_a_service(stand_in: StandIn, tmp_path: Path, name: str) -> None:
    text = (CONFIG.parent / "nginx" / name).read_text()
    assert "server hub:8000 " in text
    hubs = text.replace("hub:8000", f"localhost:{stand_in.port}")
    async with open_front([], tmp_path / "nginx", hubs=hubs) as front:
        assert await ask(front) == 200


async def test_nginx_closes_idle_connections_before_the_hub_does() -> None:
    upstream = CONFIG.read_text().partition("upstream hub {")[2].partition("}")[0]
    (keepalive_s,) = re.findall(r"keepalive_timeout (\d+)s;", upstream)
    assert int(keepalive_s) < KEEPALIVE_TIMEOUT_S


# What passes


@pytest.mark.parametrize(
    ("asked", "passed_on"),
    [
        (PATH, PATH),
        (f"{PATH}/b101", f"{PATH}/b101"),
        (f"{PATH}?x=%20y", f"{PATH}?x=%20y"),
        (f"{PATH}/b101?x=y", f"{PATH}/b101?x=y"),
        (f"/metrics/..{PATH}/b101", f"{PATH}/b101"),
        (f"/metrics/%2e%2e{PATH}?x=y", f"{PATH}?x=y"),
    ],
)
async def test_webhooks_pass(stand_in: StandIn, front: Front, asked: str, passed_on: str) -> None:
    assert await ask(front, path=asked, data=b"{}") == 200
    assert [seen.target for seen in stand_in.seen] == [passed_on]


CLOSED: Final = (
    *("/", "/health", "/ready", "/metrics", "/prometheus/metrics", "/console", "/playground", "/favicon.ico"),
    *("/admin/cache/clear", "/api/v1/b101/messages", f"{PATH}s", f"{PATH}.json", "/WhatsApp_Response"),
    *(f"{PATH}/../metrics", f"{PATH}/%2e%2e/metrics", f"{PATH}/..%2fmetrics", f"{PATH}/x/../../admin/cache/clear"),
    *(f"/-query{PATH}", f"/-query{PATH}/b101", f"/-query{PATH}?x=y"),
)


async def test_nothing_else_passes(stand_in: StandIn, front: Front) -> None:
    async with client_of(front) as client:
        for path in CLOSED:
            for method in ("GET", "POST"):
                for query in ("", "?x=y"):
                    assert await ask_by(client, front, method, path + query) == 404, path
    assert stand_in.seen == []


async def test_http_is_sent_to_https_and_passes_nothing(stand_in: StandIn, front: Front) -> None:
    async with aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{front.http_port}{PATH}?a=b"
        async with client.post(url, data=b"{}", allow_redirects=False) as response:
            assert response.status == 308
            assert response.headers["Location"] == f"https://127.0.0.1{PATH}?a=b"
    assert stand_in.seen == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_are_spoken(front: Front, version: ssl.TLSVersion) -> None:
    tls = front.authority.trusted()
    tls.minimum_version = tls.maximum_version = version
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as client:
        assert await ask_by(client, front) == 200
    assert (await front.logged(1))[0]["tls"].replace(".", "_") == version.name


async def test_body_arrives_as_it_was_sent_and_one_over_4_mib_does_not(stand_in: StandIn, front: Front) -> None:
    full = b"x" * MAX_BODY_BYTES
    async with client_of(front) as client:
        assert [await ask_by(client, front, data=data) for data in (whole(full), in_pieces(full))] == [200, 200]
        assert [seen.digest for seen in stand_in.seen] == [sha256(full).hexdigest()] * 2
        assert [seen.all("Content-Length") for seen in stand_in.seen] == [[str(len(full))]] * 2
        assert await ask_by(client, front, data=whole(full + b"x")) == 413
    reader, writer = await asyncio.open_connection("127.0.0.1", front.https_port, ssl=front.authority.trusted())
    writer.write(head("Transfer-Encoding: chunked") + b"%x\r\n" % (len(full) + 1) + full + b"x\r\n")
    assert b" 413 " in await reader.readline()
    writer.transport.abort()
    assert len(stand_in.seen) == 2


async def test_connections_to_the_hub_are_used_again(stand_in: StandIn, tmp_path: Path) -> None:
    one_worker = {"worker_processes auto": "worker_processes 1"}
    async with open_front([stand_in.port], tmp_path / "nginx", changes=one_worker) as front:
        assert [await ask(front, data=b"{}") for _ in range(20)] == [200] * 20
    assert len({seen.peer for seen in stand_in.seen}) == 1


# Who it is


@pytest.mark.parametrize(
    "forged",
    [
        [],
        ["203.0.113.9"],
        ["203.0.113.9, 127.0.0.1"],
        ["203.0.113.9", "198.51.100.7"],
        ["203.0.113.9, 198.51.100.7", "127.0.0.1"],
    ],
    ids=["none", "one", "several", "two lines", "two lines of several"],
)
async def test_hub_gets_the_address_that_nginx_saw(stand_in: StandIn, front: Front, forged: Sequence[str]) -> None:
    async with client_of(front, "127.5.0.1") as client:
        headers = [("X-Forwarded-For", line) for line in forged]
        assert await ask_by(client, front, headers=headers) == 200
    assert stand_in.seen[0].all("X-Forwarded-For") == ["127.5.0.1"]
    assert (await front.logged(1))[0]["address"] == "127.5.0.1"


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("127.6.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.6.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # the left one is what the client wrote
        ("127.6.0.1", ["203.0.113.9", "198.51.100.7, 127.6.0.2"], "198.51.100.7"),
        ("127.5.0.1", ["198.51.100.7"], "127.5.0.1"),
    ],
)
async def test_load_balancer_in_front_is_believed_and_nobody_else(
    stand_in: StandIn, tmp_path: Path, peer: str, lines: Sequence[str], client: str
) -> None:
    balancer = {"set_real_ip_from 10.0.0.0/8": "set_real_ip_from 127.6.0.0/16"}
    async with (
        open_front([stand_in.port], tmp_path / "nginx", switches=["lb"], changes=balancer) as front,
        client_of(front, peer) as session,
    ):
        assert await ask_by(session, front, headers=[("X-Forwarded-For", line) for line in lines]) == 200
    assert stand_in.seen[0].all("X-Forwarded-For") == [client]


async def test_requests_of_one_address_are_limited_and_others_pass(stand_in: StandIn, tmp_path: Path) -> None:
    few = {"limit_conn addresses 1000": "limit_conn addresses 2"}
    async with (
        open_front([stand_in.port], tmp_path / "nginx", changes=few) as front,
        client_of(front, "127.5.0.1") as greedy,
        client_of(front, "127.5.0.2") as other,
        asyncio.TaskGroup() as group,
    ):
        stand_in.open.clear()
        waiting = [group.create_task(ask_by(greedy, front)) for _ in range(2)]
        await until(lambda: have_come(stand_in, 2))
        assert await ask_by(greedy, front) == 503
        waiting.append(group.create_task(ask_by(other, front)))
        await until(lambda: have_come(stand_in, 3))
        stand_in.open.set()
    assert [task.result() for task in waiting] == [200] * 3


async def have_come(stand_in: StandIn, count: int) -> bool:
    return len(stand_in.seen) >= count


# Slow clients


async def test_slow_clients_are_stopped_before_the_hub_and_disturb_nobody(stand_in: StandIn, tmp_path: Path) -> None:
    addresses = [name_address(index, 18) for index in range(50)]
    async with open_front([stand_in.port], tmp_path / "nginx", changes=QUICK) as front:
        tls = front.authority.trusted()
        port = front.https_port
        half = head("Content-Length: 9999") + b"x"
        slow = await open_slow(port, addresses, b"")  # not even TLS
        slow += await open_slow(port, addresses, head("X-Slow: a")[:-4], drip_every_s=0.2, tls=tls)
        slow += await open_slow(port, addresses, half, tls=tls)
        dripping = await open_slow(port, addresses, half, drip_every_s=0.2, tls=tls)

        async def are_closed() -> bool:
            return all(client.closed_after_s for client in slow)

        async with client_of(front) as client:
            assert [await ask_by(client, front, data=b"{}") for _ in range(50)] == [200] * 50
            await until(are_closed)
            assert await ask_by(client, front, data=b"{}") == 200
        assert max(client.closed_after_s or 0 for client in slow) < 4
        assert {client.status for client in slow} <= {0, 408}
        for one in dripping:
            one.hang_up()
    assert len(stand_in.seen) == 51


# Hubs that are gone


async def test_webhook_that_a_hub_took_with_it_is_given_to_another(stand_in: StandIn, tmp_path: Path) -> None:
    async with open_stand_in() as dying, open_front([dying.port, stand_in.port], tmp_path / "nginx") as front:
        dying.hangs_up = True
        async with client_of(front) as client:
            assert [await ask_by(client, front, data=b"{%d}" % index) for index in range(10)] == [200] * 10
        assert {seen.digest for seen in dying.seen} <= {seen.digest for seen in stand_in.seen}
        assert 1 <= len(dying.seen) <= 3
    assert len(stand_in.seen) == 10


async def test_what_the_api_sends_is_given_to_one_hub_only(stand_in: StandIn, tmp_path: Path) -> None:
    async with (
        open_stand_in() as dying,
        open_front([dying.port, stand_in.port], tmp_path / "nginx", switches=["api"]) as front,
        client_of(front) as client,
    ):
        dying.hangs_up = True
        statuses = [await ask_by(client, front, path="/api/v1/b101/messages", data=b"{}") for _ in range(10)]
        assert statuses.count(503) == len(dying.seen) >= 1
        assert statuses.count(200) == len(stand_in.seen) == 10 - len(dying.seen)


async def test_hub_that_says_503_is_believed(stand_in: StandIn, front: Front) -> None:
    stand_in.status = 503
    assert await ask(front) == 503
    assert len(stand_in.seen) == 1


async def test_without_any_hub_it_is_503_with_retry_after(tmp_path: Path) -> None:
    async with open_front([choose_port(), choose_port()], tmp_path / "nginx") as front, client_of(front) as client:
        for _ in range(8):
            async with client.post(front.url + PATH) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
                assert orjson.loads(await response.read()) == {"error": "no hub answers, try again"}
