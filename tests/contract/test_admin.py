"""The operator's routes: who may use them, what they answer, and that they reach every process."""

from __future__ import annotations

import pytest

from tests.hub import Answer, Hub, StartHub, business, until
from whatsapp_hub.database import Database

ADMIN_TOKEN = "a-token-of-24-characters"
OPERATOR = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CLEAR, WARM = "/admin/cache/clear", "/admin/cache/warmup"


async def post(hub: Hub, path: str, **headers: str) -> Answer:
    return await hub.exchange("POST", path, headers=headers)


async def cache_size(hub: Hub) -> int:
    size: int = (await hub.exchange("GET", "/metrics")).json["cache"]["size"]
    return size


async def test_admin_answers_403_without_admin_token(start_hub: StartHub) -> None:
    hub = await start_hub(ADMIN_TOKEN="", RATE_LIMIT_ADMIN="100/minute")
    for path in (CLEAR, WARM):
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}, OPERATOR):
            assert (await post(hub, path, **headers)).status == 403


async def test_admin_answers_401_to_whoever_has_not_the_token(start_hub: StartHub) -> None:
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN, RATE_LIMIT_ADMIN="100/minute")
    for path in (CLEAR, WARM):
        for authorization in ("", "Bearer", "Bearer wrong", f"Basic {ADMIN_TOKEN}", f"Bearer {ADMIN_TOKEN}x"):
            assert (await post(hub, path, Authorization=authorization)).status == 401


async def test_guessing_the_token_is_limited_and_shuts_nobody_out(start_hub: StartHub) -> None:
    """A guess is counted by its address, apart from what the operator does, whoever shares the address with whom."""
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN, RATE_LIMIT_ADMIN="5/hour", TRUSTED_PROXIES="127.0.0.1")

    async def ask(address: str, authorization: str, path: str = CLEAR) -> int:
        headers = {"Authorization": authorization, "X-Forwarded-For": address}
        return (await post(hub, path, **headers)).status

    guesses = [f"Bearer {ADMIN_TOKEN[:-1]}{letter}" for letter in "abcdefghijklmnop"]
    assert [await ask("203.0.113.1", guess) for guess in guesses] == [401] * 5 + [429] * 11
    assert await ask("203.0.113.1", OPERATOR["Authorization"]) == 200
    assert await ask("203.0.113.2", guesses[0]) == 401
    assert await ask("203.0.113.2", OPERATOR["Authorization"]) == 200


async def test_other_sites_are_given_nothing(start_hub: StartHub) -> None:
    """No header lets a page of another origin read an answer, and no preflight is answered with yes."""
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)
    foreign = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", CLEAR), ("POST", CLEAR), ("GET", "/metrics"), ("GET", "/health")):
        answer = await hub.exchange(method, path, headers={**foreign, **OPERATOR})
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert (answer.status == 405) is (method == "OPTIONS")


@pytest.mark.parametrize(("path", "size"), [(CLEAR, 0), (WARM, 3)])
async def test_admin_reaches_every_process(database: Database, start_hub: StartHub, path: str, size: int) -> None:
    await database.businesses.insert_many([business(number) for number in ("101", "102", "103")])
    settings = {"ADMIN_TOKEN": ADMIN_TOKEN, "WARMUP_CACHE": "false", "RATE_LIMIT_METRICS": "1000000/minute"}
    hubs = [await start_hub(**settings), await start_hub(**settings)]
    for hub in hubs:
        await hub.say("101", "hello", f"wamid.{hub.url}")
        await hub.at_rest()
        assert await cache_size(hub) == 1
    answer = await post(hubs[0], path, **OPERATOR)
    assert (answer.status, answer.json["status"]) == (200, "success")
    for hub in hubs:

        async def is_done(hub: Hub = hub) -> bool:
            return await cache_size(hub) == size

        await until(is_done)
