"""The console over HTTP: who is let in, from where something may be changed, and what is told."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import pytest
from yarl import URL

from tests.hub import Answer, Hub, StartHub, business, until
from tests.leaks import LEAKS
from tests.redis_server import RedisServer
from whatsapp_hub.database import Database
from whatsapp_hub.http import keys
from whatsapp_hub.http.console.streams import MOST_STREAMS

ADMIN_TOKEN: Final = LEAKS.seed("the operator's very own token")
LOGIN: Final = "/console/login"
PAGES: Final = ("/console", "/console/businesses", "/console/conversations", "/console/dead-letters", "/console/search")
OVERVIEW: Final = "/console/api/overview"
SWITCH: Final = "/console/api/businesses/switch"
OWN: Final = {"Sec-Fetch-Site": "same-origin"}


async def log_in(hub: Hub, token: str = ADMIN_TOKEN, **headers: str) -> Answer:
    form = {"token": token, "next": "/console/businesses"}
    return await hub.exchange("POST", LOGIN, data=form, headers={**OWN, **headers}, allow_redirects=False)


async def cookie_of(hub: Hub) -> dict[str, str]:
    """Log in; return the header that a browser shows from then on."""
    answer = await log_in(hub)
    assert answer.status == 303
    hub.client.cookie_jar.clear()
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def get(hub: Hub, path: str, **headers: str) -> Answer:
    return await hub.exchange("GET", path, headers=headers, allow_redirects=False)


async def post(hub: Hub, path: str, body: object, **headers: str) -> Answer:
    return await hub.exchange("POST", path, data=orjson.dumps(body), headers=headers)


@pytest.fixture
async def site(database: Database, start_hub: StartHub) -> Hub:
    await database.businesses.insert_many([business(number) for number in ("101", "102", "103")])
    return await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)


@pytest.fixture
async def operator(site: Hub) -> dict[str, str]:
    """The headers of a page of an operator who has logged in."""
    return {**await cookie_of(site), **OWN, "Content-Type": "application/json"}


# Who is let in


async def test_console_is_closed_without_an_admin_token(start_hub: StartHub) -> None:
    hub = await start_hub(ADMIN_TOKEN="")
    page = await hub.exchange("GET", "/console")
    assert page.status == 403
    assert b"ADMIN_TOKEN" in page.body
    for token in ("", "None", ADMIN_TOKEN):
        assert (await log_in(hub, token)).status == 403
    assert (await get(hub, OVERVIEW)).status == 403


@pytest.mark.parametrize("path", PAGES)
async def test_stranger_is_sent_to_where_one_logs_in(site: Hub, path: str) -> None:
    for headers in (
        {},
        {"Cookie": "hub_console="},
        {"Cookie": f"hub_console={time.time() + 60:.0f}.{'0' * 32}.{'0' * 64}"},
    ):
        answer = await get(site, path, **headers)
        assert (answer.status, answer.headers["Location"]) == (303, f"{LOGIN}?next={path}")


async def test_stranger_gets_no_answer_of_the_api(site: Hub) -> None:
    paths = {str(route.resource.canonical) for route in site.app.router.routes() if route.resource}
    api = [re.sub(r"{\w+}", "x", path) for path in paths if path.startswith("/console/api/")]
    assert len(api) >= 5
    for path in api:
        method = "GET" if (await get(site, path)).status != 405 else "POST"
        answer = await site.exchange(method, path, headers={**OWN, "Content-Type": "application/json"})
        assert answer.status == 401, path
        assert answer.json == {"error": "you are logged out; log in again"}


async def test_operator_logs_in_and_comes_back_to_the_page(site: Hub) -> None:
    answer = await log_in(site)
    assert (answer.status, answer.headers["Location"]) == (303, "/console/businesses")
    site.client.cookie_jar.clear()
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    for path in (*PAGES, OVERVIEW):
        assert (await get(site, path, **cookie)).status == 200


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/console/../x", "/console/api/overview"]
)
async def test_login_leads_nowhere_else(site: Hub, elsewhere: str) -> None:
    answer = await site.exchange(
        "POST", LOGIN, data={"token": ADMIN_TOKEN, "next": elsewhere}, headers=OWN, allow_redirects=False
    )
    assert (answer.status, answer.headers["Location"]) == (303, "/console")


async def test_cookie_has_its_flags(site: Hub) -> None:
    def flags(answer: Answer) -> set[str]:
        return set(answer.headers["Set-Cookie"].split("; ")[1:])

    plain = {"HttpOnly", "SameSite=Strict", "Path=/console", f"Max-Age={12 * 3600}"}
    assert flags(await log_in(site)) == plain
    port = URL(site.url).port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert flags(await log_in(site, Host=host)) == plain
    for headers in ({"Host": "hub.example"}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-For": "203.0.113.1"}):
        assert flags(await log_in(site, **headers)) == {*plain, "Secure"}


async def test_wrong_token_gets_the_page_again(site: Hub) -> None:
    answer = await log_in(site, f"{ADMIN_TOKEN}x")
    assert answer.status == 401
    assert b"That is not the admin token" in answer.body
    assert "Set-Cookie" not in answer.headers
    assert ADMIN_TOKEN.encode() not in answer.body


@pytest.mark.parametrize("form", [b"", b"token", b"\xff\xfe=%ff&token=%ED%A0%80", b"token=" + b"x" * 10_000])
async def test_form_that_is_none_is_a_wrong_token(site: Hub, form: bytes) -> None:
    headers = {**OWN, "Content-Type": "application/x-www-form-urlencoded; charset=nonsense"}
    assert (await site.exchange("POST", LOGIN, data=form, headers=headers)).status == 401


async def test_guessing_is_limited_and_keeps_nobody_out(start_hub: StartHub, redis_server: RedisServer) -> None:
    """With Redis, processes count together."""
    settings = {"ADMIN_TOKEN": ADMIN_TOKEN, "TRUSTED_PROXIES": "127.0.0.1", "REDIS_URL": redis_server.url}
    hubs = [await start_hub(**settings), await start_hub(**settings)]

    async def guess(n: int, address: str, token: str = "a wrong one, long enough") -> Answer:
        return await log_in(hubs[n % 2], token, **{"X-Forwarded-For": address})

    answers = [await guess(n, "203.0.113.1") for n in range(8)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert b"Too many wrong tokens" in answers[-1].body
    assert (await guess(0, "203.0.113.1", ADMIN_TOKEN)).status == 303
    assert (await guess(0, "203.0.113.2")).status == 401


# The session


async def test_session_counts_at_every_process_and_ends_with_the_token(start_hub: StartHub) -> None:
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)
    other = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)
    changed = await start_hub(ADMIN_TOKEN=f"{ADMIN_TOKEN}, changed")
    cookie = await cookie_of(hub)
    assert [(await get(one, OVERVIEW, **cookie)).status for one in (hub, other, changed)] == [200, 200, 401]


async def test_logging_out_ends_the_session(site: Hub, operator: dict[str, str]) -> None:
    cookie = {"Cookie": operator["Cookie"]}
    answer = await site.exchange("POST", "/console/logout", headers={**cookie, **OWN}, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, LOGIN)
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert (await get(site, OVERVIEW, **cookie)).status == 401


async def test_headers_that_are_no_urls_are_nobodys(site: Hub, operator: dict[str, str]) -> None:
    cookie = {"Cookie": operator["Cookie"]}
    assert (await get(site, LOGIN, Host="[")).status == 200
    assert "Secure" in (await log_in(site, Host="[")).headers["Set-Cookie"]
    for origin in ("http://[", "", "http://", "\xff"):
        assert (await site.exchange("POST", "/console/logout", headers={**cookie, "Origin": origin})).status == 403


FOREIGN: Final = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a sibling": {"Sec-Fetch-Site": "same-site"},
    "a typed address": {"Sec-Fetch-Site": "none"},
    "another origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"},
    "nothing said": {},
    "another port": {"Origin": "http://127.0.0.1:1"},
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_nothing_is_changed_from_elsewhere(site: Hub, operator: dict[str, str], name: str) -> None:
    cookie = {"Cookie": operator["Cookie"]}
    headers = {**cookie, **FOREIGN[name]}
    body = {"business": "b101", "on": False}
    assert (await post(site, SWITCH, body, **headers, **{"Content-Type": "application/json"})).status == 403
    assert (await site.exchange("POST", "/console/logout", headers=headers)).status == 403
    form = {"token": ADMIN_TOKEN}
    assert (await site.exchange("POST", LOGIN, data=form, headers=FOREIGN[name], allow_redirects=False)).status == 403
    found = await site.database.businesses.find_one({"subDomain": "b101"})
    assert found is not None
    assert found["whatsappEnabled"]
    assert (await get(site, OVERVIEW, **cookie)).status == 200


async def test_browser_that_says_its_origin_only_is_enough(site: Hub, operator: dict[str, str]) -> None:
    headers = {"Cookie": operator["Cookie"], "Content-Type": "application/json", "Origin": site.url}
    assert (await post(site, SWITCH, {"business": "b101", "on": False}, **headers)).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_form_changes_nothing(site: Hub, operator: dict[str, str], content_type: str) -> None:
    answer = await post(site, SWITCH, {"business": "b101", "on": False}, **{**operator, "Content-Type": content_type})
    assert answer.status == 415


@pytest.mark.parametrize("body", [[], "text", {}, {"business": 5, "on": True}, {"business": "b101", "on": "yes"}])
async def test_request_that_means_nothing_is_refused_in_words(
    site: Hub, operator: dict[str, str], body: object
) -> None:
    answer = await post(site, SWITCH, body, **operator)
    assert answer.status == 400
    assert answer.json["error"]


async def test_request_that_is_too_large_is_refused(site: Hub, operator: dict[str, str]) -> None:
    assert (await post(site, SWITCH, {"business": "x" * 70_000}, **operator)).status == 413


# What every answer says


async def test_every_answer_keeps_the_browser_to_this_origin(site: Hub, operator: dict[str, str]) -> None:
    cookie = {"Cookie": operator["Cookie"]}
    answers = [
        *[await get(site, path, **cookie) for path in (*PAGES, OVERVIEW, "/console/static/main.js")],
        *[await get(site, path) for path in ("/console", LOGIN, OVERVIEW, "/console/static/nothing.js")],
        await log_in(site),
        await log_in(site, "wrong"),
        await post(site, SWITCH, {}, **operator),
    ]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}
    assert (await get(site, OVERVIEW, **cookie)).headers["Cache-Control"] == "no-store"


async def test_files_are_sent_again_only_when_they_have_changed(site: Hub) -> None:
    first = await get(site, "/console/static/console.css")
    assert (first.status, first.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    again = await get(site, "/console/static/console.css", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "name", ["console.html", "../doors.py", "%2e%2e/doors.py", "pages", "nothing.js", "login.html"]
)
async def test_nothing_but_the_files_is_served(site: Hub, name: str) -> None:
    answer = await site.exchange("GET", f"/console/static/{name}")
    assert answer.status == 404


async def test_no_secret_and_no_customer_is_told(site: Hub, operator: dict[str, str]) -> None:
    await site.say("101", "what nobody else may read", "wamid.1", sender="491700000077")
    await site.at_rest()
    paths = ("/console", OVERVIEW, "/console/api/businesses", "/console/api/businesses/activity?number=101")
    told = b"".join([(await get(site, path, Cookie=operator["Cookie"])).body for path in paths])
    assert b"b101" in told
    for secret in (b"491700000077", b"what nobody", b"token-101", ADMIN_TOKEN.encode(), b"gAAAA"):
        assert secret not in told


# The overview


class Stream:
    """A page's stream of events."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines

    async def next(self) -> dict[str, Any] | None:
        """Return the next tick; None at the end."""
        async for line in self._lines:
            if line.startswith(b"event: end"):
                return None
            if line.startswith(b"data: "):
                tick: dict[str, Any] = orjson.loads(line[6:])
                return tick
        return None

    async def until(self, condition: Any, timeout_s: float = 10.0) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            while (tick := await self.next()) is not None:
                if condition(tick):
                    return tick
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def following(hub: Hub, operator: dict[str, str]) -> AsyncIterator[Stream]:
    headers = {"Cookie": operator["Cookie"]}
    async with hub.client.get(f"{hub.url}{OVERVIEW}/stream", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Stream(aiter(response.content))


def received(tick: dict[str, Any]) -> bool:
    return any(point["received_per_s"] > 0 for point in tick["points"])


async def test_page_hears_of_a_message_by_itself(site: Hub, operator: dict[str, str]) -> None:
    async with following(site, operator) as stream:
        first = await stream.next()
        assert first is not None
        assert first["state"]["troubles"] == []
        await site.say("101", "hello", "wamid.1")
        await stream.until(lambda tick: any(point["results_per_s"]["sent"] > 0 for point in tick["points"]))
    points = (await get(site, OVERVIEW, Cookie=operator["Cookie"])).json["points"]
    assert max(point["received_per_s"] for point in points) > 0


async def test_processes_are_shown_together(database: Database, start_hub: StartHub) -> None:
    """What one process receives and what it holds is shown by the other."""
    await database.businesses.insert_one(business("101"))
    await database.businesses.insert_one(business("102", whatsappAccessToken="not to be decrypted"))
    here, there = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN), await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)
    operator = await cookie_of(here)
    async with following(here, operator) as stream:
        await stream.until(lambda tick: tick["points"] and tick["points"][0]["processes"] == 2)
        await there.say("101", "hello", "wamid.1")
        await stream.until(received)
        await there.say("102", "hello", "wamid.2")
        tick = await stream.until(lambda tick: tick["state"] and tick["state"]["held"] == 1)
        assert tick["state"]["processes"] == 2
        (trouble,) = tick["state"]["troubles"]
        assert trouble["what"].startswith("b102 cannot send: whatsappAccessToken does not decrypt")
        assert trouble["command"] == "whatsapp-hub business set-token b102"


async def test_stream_ends_when_the_operator_logs_out(site: Hub, operator: dict[str, str]) -> None:
    async with following(site, operator) as stream, following(site, await cookie_of(site)) as other:
        assert await stream.next() is not None
        await site.exchange("POST", "/console/logout", headers={"Cookie": operator["Cookie"], **OWN})
        async with asyncio.timeout(5):
            while await stream.next() is not None:
                pass
        assert await other.next() is not None


async def test_there_are_only_so_many_streams(site: Hub, operator: dict[str, str]) -> None:
    streams = site.app[keys.CONSOLE].streams
    open_ones = [streams.opened("somebody") for _ in range(MOST_STREAMS - 1)]
    for one in open_ones:
        one.__enter__()
    async with following(site, operator):
        answer = await get(site, f"{OVERVIEW}/stream", Cookie=operator["Cookie"])
        assert answer.status == 503
        assert "close some of them" in answer.json["error"]

    async def are_gone() -> bool:
        return len(streams) == MOST_STREAMS - 1

    await until(are_gone)
    for one in open_ones:
        one.__exit__(None, None, None)


@pytest.mark.deadlines
async def test_open_page_does_not_delay_a_stop(site: Hub, operator: dict[str, str]) -> None:
    async with following(site, operator) as stream:
        assert await stream.next() is not None
        began = time.monotonic()
        await site.stop()
        assert time.monotonic() - began < 2.0


async def test_database_that_fails_is_said_in_words(site: Hub, operator: dict[str, str]) -> None:
    admin = site.database.client.admin
    failing = ["find", "update", "insert", "aggregate", "count"]
    point = {"configureFailPoint": "failCommand", "data": {"failCommands": failing, "errorCode": 50}}
    await admin.command({**point, "mode": "alwaysOn"})
    try:

        async def is_told() -> bool:
            state = (await get(site, OVERVIEW, Cookie=operator["Cookie"])).json["state"]
            return bool(state["troubles"]) and state["troubles"][0]["what"].startswith("Webhooks are refused: ")

        await until(is_told)
        for answer in (
            await get(site, "/console/api/businesses", Cookie=operator["Cookie"]),
            await post(site, SWITCH, {"business": "b101", "on": False}, **operator),
            await post(site, "/console/api/cache/clear", {}, **operator),
        ):
            assert answer.status == 503
            assert answer.json["error"].startswith("the database does not answer")
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


# The businesses


async def listed(hub: Hub, operator: dict[str, str], **query: str) -> dict[str, Any]:
    path = URL("/console/api/businesses").with_query(query)
    answer: dict[str, Any] = (await get(hub, str(path), Cookie=operator["Cookie"])).json
    return answer


async def test_every_business_says_how_it_stands(database: Database, start_hub: StartHub) -> None:
    now = datetime.now(UTC)
    await database.businesses.insert_many(
        [
            business("101", name="Anna's Bakery", whatsappTokenExpiresAt=now + timedelta(days=2)),
            business("102", whatsappEnabled=False),
            business("103", whatsappAccessToken="not to be decrypted"),
            business("104"),
            business("105", whatsappPhoneNumberIds=["104"]),
            business("106"),
        ]
    )
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN)
    operator = await cookie_of(hub)
    await hub.say("103", "hello", "wamid.1")

    async def is_held() -> bool:
        return bool(hub.app[keys.CONSOLE].held())

    await until(is_held)

    async def find(**query: str) -> dict[str, str]:
        return {one["business"]: one["state"] for one in (await listed(hub, operator, **query))["items"]}

    states = {
        "b101": "serving",
        "b102": "off",
        "b103": "held",
        "b104": "contested",
        "b105": "contested",
        "b106": "serving",
    }
    assert await find() == states
    assert set(await find(state="attention")) == {"b101", "b103", "b104", "b105"}
    assert set(await find(state="off")) == {"b102"}
    assert set(await find(state="on")) == states.keys() - {"b102"}
    assert set(await find(words="ANNA's")) == {"b101"}
    assert set(await find(words="106")) == {"b106"}
    assert await find(words=".*") == {}
    assert await find(words="\x00\ud800") == {}
    (held,) = (await listed(hub, operator, words="b103"))["items"]
    assert held["why"].startswith("whatsappAccessToken does not decrypt")
    assert held["command"] == "whatsapp-hub business set-token b103"


async def test_many_businesses_come_page_by_page(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_many([business(str(number)) for number in range(1000, 1060)])
    hub = await start_hub(ADMIN_TOKEN=ADMIN_TOKEN, WARMUP_CACHE="false")
    operator = await cookie_of(hub)
    seen: list[str] = []
    page: int | None = 1
    while page is not None:
        answer = await listed(hub, operator, page=str(page))
        assert (answer["total"], answer["page"]) == (60, page)
        seen += [one["business"] for one in answer["items"]]
        page = answer["more"]
    assert seen == [f"b{number}" for number in range(1000, 1060)]
    for nonsense in ("0", "-1", "x", "99999999999", "٣"):
        assert (await listed(hub, operator, page=nonsense))["total"] == 60


async def test_volumes_and_last_messages_are_told(site: Hub, operator: dict[str, str]) -> None:
    for n in range(3):
        await site.say("101", "hello", f"wamid.{n}")
    await site.at_rest()

    async def find() -> list[dict[str, Any]]:
        path = "/console/api/businesses/activity?number=101&number=102&number=%00"
        answer = (await get(site, path, Cookie=operator["Cookie"])).json
        assert answer["days"] == 14
        items: list[dict[str, Any]] = answer["items"]
        return items

    async def is_remembered() -> bool:
        return (await find())[0]["last_at"] is not None

    await until(is_remembered)
    first, second = await find()
    assert (first["messages"], second["messages"], second["last_at"]) == (3, 0, None)
    assert abs(datetime.fromisoformat(first["last_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_business_is_paused_and_resumed(site: Hub, operator: dict[str, str]) -> None:
    async def state() -> str:
        (found,) = (await listed(site, operator, words="b101"))["items"]
        return str(found["state"])

    assert (await post(site, SWITCH, {"business": "b101", "on": False}, **operator)).status == 200
    assert await state() == "off"

    async def is_off() -> bool:
        return site.app[keys.DIRECTORY].size() == (3, 2)

    await until(is_off)
    await site.say("101", "hello?", "wamid.1")
    await site.row_where("101", "wamid.1", outcome="no_reply")
    assert (await post(site, SWITCH, {"business": "b101", "on": True}, **operator)).status == 200
    assert await state() == "serving"


async def test_business_that_cannot_be_switched_on_is_said_so(site: Hub, operator: dict[str, str]) -> None:
    await site.database.businesses.insert_many(
        [business("104", isActive=False), business("105", whatsappPhoneNumberIds=["101"], whatsappEnabled=False)]
    )
    for name, words in (("b104", "isActive"), ("b105", "belongs to 'b101'"), ("nobody", "no business has")):
        answer = await post(site, SWITCH, {"business": name, "on": True}, **operator)
        assert answer.status == 409
        assert words in answer.json["error"]


async def test_cache_is_cleared_at_every_process(database: Database, start_hub: StartHub) -> None:
    await database.businesses.insert_one(business("101"))
    settings = {"ADMIN_TOKEN": ADMIN_TOKEN, "TIMING__ROUND_S": "0.001"}  # each hears of it in the same moment
    hubs = [await start_hub(**settings), await start_hub(**settings)]
    operator = {**await cookie_of(hubs[0]), **OWN, "Content-Type": "application/json"}
    for hub in hubs:
        await hub.say("101", "hello", f"wamid.{hub.url}")
        await hub.at_rest()
    assert (await post(hubs[0], "/console/api/cache/clear", {}, **operator)).json == {"cleared": 1}
    for hub in hubs:

        async def is_empty(hub: Hub = hub) -> bool:
            return hub.app[keys.DIRECTORY].cache_info().size == 0

        await until(is_empty)
