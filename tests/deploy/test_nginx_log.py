"""What the shipped nginx writes down, and what it never does."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from tests.deploy.front import HANDSHAKE, PATH, Front, ask, open_front, whole
from tests.deploy.stand_in import StandIn, open_stand_in
from tests.faults.hubs import choose_port
from whatsapp_hub.http.body import MAX_BODY_BYTES


async def test_log_tells_of_each_request_in_json(front: Front) -> None:
    assert await ask(front, "GET", f"{PATH}/b101", params=HANDSHAKE) == 200
    assert await ask(front, "GET", '/%22%0a"\\é') == 404
    handshake, other = await front.logged(2)
    assert handshake["time"]
    assert handshake["duration_s"] >= 0
    assert (handshake["method"], handshake["path"], handshake["status"]) == ("GET", f"{PATH}/b101", "200")
    assert handshake["hub_status"] == "200"
    assert (other["status"], other["hub"]) == ("404", "")


async def test_no_query_no_signature_and_no_body_is_ever_written_down(tmp_path: Path) -> None:
    async with open_stand_in() as stand_in, open_front([stand_in.port], tmp_path / "up") as front:
        assert await ask(front, "GET", params=HANDSHAKE) == 200
        assert await ask(front, data=b'{"text":"Rosenquarz"}', headers={"X-Hub-Signature-256": "sha256=abc4711"}) == 200
        assert await ask(front, "GET", "/favicon.ico", params=HANDSHAKE) == 404
        assert await ask(front, params=HANDSHAKE, data=whole(b"x" * (MAX_BODY_BYTES + 1))) == 413
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{front.http_port}/.well-known/acme-challenge/x"
            assert (await client.get(url, params=HANDSHAKE)).status == 404
            elsewhere = url.replace("/.well-known", "")
            assert (await client.get(elsewhere, params=HANDSHAKE, allow_redirects=False)).status == 308
        await front.logged(6)
        assert "4711" not in front.logs()
        assert "Rosenquarz" not in front.logs()
    async with open_front([choose_port()], tmp_path / "down") as front:
        assert await ask(front, "GET", params=HANDSHAKE) == 503
        assert await ask(front, "GET", f"{PATH}/b101", params=HANDSHAKE) == 503
        assert (await front.logged(2))[0]["hub_status"].startswith("502")
        assert "Connection refused" not in front.logs()
        assert await ask(front, data=b"{}") == 503
        assert "Connection refused" in front.logs()  # so it does write down what has no query
        assert HANDSHAKE["hub.verify_token"] not in front.logs()


async def test_ids_of_the_api_are_not_written_down(stand_in: StandIn, tmp_path: Path) -> None:
    async with open_front([stand_in.port], tmp_path / "nginx", switches=["api"]) as front:
        assert await ask(front, path="/api/v1/b101/conversations/101:491700000001/pause") == 200
        assert stand_in.seen[0].target == "/api/v1/b101/conversations/101:491700000001/pause"
        assert (await front.logged(1))[0]["path"] == "/api/v1/b101"
        assert "491700000001" not in front.logs()
