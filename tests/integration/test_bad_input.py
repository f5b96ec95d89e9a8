"""Bad input of every kind: each gets its status, and the process is none the worse for it."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import web

from whatsapp_hub.app import create_app
from whatsapp_hub.cloud_api.signature import sign
from whatsapp_hub.database import connect
from whatsapp_hub.server import make_runner
from whatsapp_hub.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = b"bad-input-app-secret"
TOKEN = "bad-input-token"
PATH = "/whatsapp_response"
MIB = 1024 * 1024
TEXT = (Path(__file__).parents[1] / "samples" / "text.json").read_bytes()


@dataclass(frozen=True)
class Case:
    name: str
    status: int | None  #: None: the connection is closed without an answer
    pieces: tuple[bytes, ...]  #: written one after the other
    leaves: bool = False  #: the client closes once it has written
    is_http: bool = True  #: False: aiohttp itself refuses it


def request(
    body: bytes = TEXT,
    *headers: str,
    signature: str | bytes | None = None,
    path: str = PATH,
    method: str = "POST",
    length: bool = True,
) -> bytes:
    """Write a request, signed rightly unless told otherwise."""
    signed = sign(body, SECRET) if signature is None else signature
    signed = signed.encode() if isinstance(signed, str) else signed
    lines = [
        f"{method} {path} HTTP/1.1".encode(),
        b"Host: hub",
        *([b"X-Hub-Signature-256: " + signed] if signed else []),
        *(header.encode("latin-1") for header in headers),
        *([b"Content-Length: %d" % len(body)] if length else []),
    ]
    return b"\r\n".join([*lines, b"", body])


def get(query: str, path: str = PATH) -> bytes:
    return f"GET {path}?{query} HTTP/1.1\r\nHost: hub\r\n\r\n".encode()


def chunked(body: bytes) -> bytes:
    head = request(body, "Transfer-Encoding: chunked", length=False)
    return head.removesuffix(body) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def payload(value: object, **change: object) -> bytes:
    changes = [{"field": "messages", "value": value} | change]
    return json.dumps({"entry": [{"id": "1", "changes": changes}]}).encode()


def messages(*items: object, **value: object) -> bytes:
    return payload({"metadata": {"phone_number_id": "1"}, "messages": list(items), **value})


GOOD: dict[str, Any] = {"id": "wamid.GOOD", "from": "15550001111", "timestamp": "1749416383", "type": "text"}
GREETING = f"hub.mode=subscribe&hub.challenge=echo-me&hub.verify_token={TOKEN}"
CHUNK_LENGTH = b"\r\n\r\n%x" % len(TEXT)
HEX = sign(TEXT, SECRET).removeprefix("sha256=")

HANDSHAKES = [
    Case("a handshake without anything", 403, (get(""),)),
    Case("a handshake with a wrong token", 403, (get(GREETING + "x"),)),
    Case("a handshake with an empty token", 403, (get("hub.mode=subscribe&hub.challenge=echo-me&hub.verify_token="),)),
    Case("a handshake without a token", 403, (get("hub.mode=subscribe&hub.challenge=echo-me"),)),
    Case("a handshake with a token that is no text", 403, (get(GREETING.replace(TOKEN, "%ff%fe%ed%a0%80")),)),
    Case("a handshake without a mode", 403, (get(GREETING.removeprefix("hub.mode=subscribe&")),)),
    Case("a handshake without a challenge", 403, (get(GREETING.replace("hub.challenge=echo-me&", "")),)),
    Case("a handshake of nobody's subdomain", 403, (get(GREETING, path=PATH + "/nobody"),)),
]
ROUTES = [
    Case("a method that is none of ours", 405, (request(method="PUT"),)),
    Case("a method that nobody knows", 400, (request(method="BREW"),), is_http=False),
    Case("another path", 404, (request(path="/whatsapp_responses"),)),
    Case("a path with one part too many", 404, (request(path=PATH + "/a/b"),)),
    Case("a path that climbs", 404, (request(path=PATH + "/../../etc/passwd"),)),
    Case("a subdomain that nobody has", 401, (request(path=PATH + "/nobody"),)),
    Case("a subdomain with a NUL", 401, (request(path=PATH + "/no%00body"),)),
    Case("an expectation that cannot be met", 417, (request(TEXT, "Expect: the-unexpected"),)),
]
SIGNATURES = [
    Case("no signature", 401, (request(signature=b""),)),
    Case("an empty signature", 401, (request(TEXT, "X-Hub-Signature-256: ", signature=b""),)),
    Case("another's signature", 401, (request(signature=sign(TEXT, b"guessed")),)),
    Case("the signature of another body", 401, (request(signature=sign(TEXT + b" ", SECRET)),)),
    Case("a signature in capitals", 401, (request(signature="sha256=" + HEX.upper()),)),
    Case("a signature without its prefix", 401, (request(signature=HEX),)),
    Case("a signature with another prefix", 401, (request(signature="sha1=" + HEX),)),
    Case("a signature that is too long", 401, (request(signature="sha256=" + HEX + "0"),)),
    Case("a signature that is no hex", 401, (request(signature="sha256=" + "g" * 64),)),
    Case("a signature that is no text", 401, (request(signature=b"sha256=" + b"\xff\xc3" * 32),)),
    Case("a signature of seven kilobytes", 401, (request(signature="sha256=" + HEX * 110),)),
    Case("two signatures", 401, (request(TEXT, "X-Hub-Signature-256: sha256=" + HEX),)),
]
BODIES = [
    Case("a compressed body", 415, (request(gzip.compress(TEXT), "Content-Encoding: gzip"),)),
    Case("a bomb", 415, (request(gzip.compress(b"{}" * 10 * MIB), "Content-Encoding: gzip"),)),
    Case("a body in a coding that nobody knows", 415, (request(TEXT, "Content-Encoding: echo-me"),)),
    Case("a body that says it is as it is", 415, (request(TEXT, "Content-Encoding: identity"),)),
    Case("a body of five megabytes", 413, (request(b"x" * 5 * MIB),)),
    Case("a body of five megabytes in chunks", 413, (chunked(b"x" * 5 * MIB),)),
    Case("a body that says it is endless", 413, (request(TEXT, "Content-Length: 99999999999", length=False),)),
    Case("a body that never ends", 408, (request(TEXT, "Content-Length: 99999", length=False),)),
    Case("a body that drips", 408, (request(TEXT, "Content-Length: 99999", length=False), *[b"x"] * 5)),
    Case("a client that leaves within its body", None, (request(TEXT, "Content-Length: 9999", length=False),), True),
]
TRANSPORT = [
    Case("no HTTP at all", 400, (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03echo-me\r\n\r\n",), is_http=False),
    Case("HTTP/2 out of the blue", 400, (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), is_http=False),
    Case("a line that is too long", 400, (get("a=" + "b" * 10_000),), is_http=False),
    Case("a header that is too long", 400, (request(TEXT, "X-Long: " + "b" * 10_000),), is_http=False),
    Case("too many headers", 400, (request(TEXT, *[f"X-{n}: b" for n in range(300)]),), is_http=False),
    Case("a negative length", 400, (request(TEXT, "Content-Length: -1", length=False),), is_http=False),
    Case("a length that is no number", 400, (request(TEXT, "Content-Length: echo-me", length=False),), is_http=False),
    Case("two lengths", 400, (request(TEXT, "Content-Length: 5"),), is_http=False),
    Case("a length and chunks", 400, (request(TEXT, "Transfer-Encoding: chunked"),), is_http=False),
    Case("chunks that are none", 400, (chunked(TEXT).replace(CHUNK_LENGTH, b"\r\n\r\nzz"),), is_http=False),
    Case("a space before a colon", 400, (request(TEXT, "X-Strange : b"),), is_http=False),
    Case("a client that leaves within its headers", None, (b"POST /whatsapp_response HTTP/1.1\r\nHo",), True),
    Case("a client that says nothing", None, (b"",), True),
]
NO_OBJECTS = [
    Case("an empty body", 400, (request(b""),)),
    Case("no body", 400, (request(b"", length=False),)),
    Case("a text that is no JSON", 400, (request(b"echo-me"),)),
    Case("half a JSON", 400, (request(TEXT[:-20]),)),
    Case("JSON and something more", 400, (request(TEXT + b"}"),)),
    Case("a list", 400, (request(b"[" + TEXT + b"]"),)),
    Case("null", 400, (request(b"null"),)),
    Case("a form", 400, (request(b"hub.mode=subscribe", "Content-Type: application/x-www-form-urlencoded"),)),
    Case("JSON that is not UTF-8", 400, (request(b'{"entry":"\xff\xfe"}'),)),
    Case("a list of a hundred thousand levels", 400, (request(b"[" * 100_000 + b"]" * 100_000),)),
    Case("an object of half a hundred thousand levels", 400, (request(b'{"a":' * 100_000),)),
]
STRANGE_OBJECTS = [
    Case("an object of a hundred thousand levels", 200, (request(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),)),
    Case("an object of forty levels", 200, (request(b'{"a":' * 40 + b"1" + b"}" * 40),)),
    Case("an empty object", 200, (request(b"{}"),)),
    Case("the same key twice", 200, (request(b'{"entry":5,"entry":[{"changes":5,"changes":[]}]}'),)),
    Case("numbers that are none", 200, (request(b'{"entry":[NaN,Infinity,-Infinity,1e999]}'),)),
    Case("a number of five thousand digits", 200, (request(b'{"entry":[' + b"9" * 5000 + b"]}"),)),
    Case("a lone surrogate", 200, (request(messages(GOOD | {"text": {"body": "\ud83d"}})),)),
    Case("a lone surrogate in an id", 200, (request(messages(GOOD | {"id": "wamid.\udfff"})),)),
    Case("a NUL in a key and in an id", 200, (request(messages(GOOD | {"id": "wamid.\0", "a\0b": 1})),)),
    Case("an integer beyond all databases", 200, (request(messages(GOOD | {"n": 2**64 - 1, "timestamp": 2**64})),)),
    Case("keys of a database", 200, (request(messages({"$where": "1", "id": {"$gt": ""}, "from": "$$ROOT"})),)),
    Case("an id of a megabyte", 200, (request(messages(GOOD | {"id": "w" * MIB})),)),
    Case("messages that are no list", 200, (request(payload({"messages": {"0": GOOD}, "statuses": "none"})),)),
    Case("messages that are no objects", 200, (request(messages(None, 5, "x", [], {}, [GOOD])),)),
    Case("names of the wrong types", 200, (request(messages(GOOD | {"from": 5, "from_user_id": [], "type": {}})),)),
    Case("contacts of the wrong types", 200, (request(messages(GOOD, contacts=[None, {"profile": 5}])),)),
    Case("statuses of the wrong types", 200, (request(messages(statuses=[5, {"id": 5}, {"id": "a", "status": []}])),)),
    Case("a number with a colon", 200, (request(messages(GOOD, metadata={"phone_number_id": "1:2"})),)),
    Case("changes of the wrong types", 200, (request(b'{"entry":[5,{"changes":5},{"changes":[5,{"value":5}]}]}'),)),
    Case("a field of the wrong type", 200, (request(payload({"messages": [GOOD]}, field={"a": 1})),)),
    Case("two thousand messages", 200, (request(messages(*[GOOD | {"id": f"wamid.{n}"} for n in range(2000)])),)),
]
CASES = [*HANDSHAKES, *ROUTES, *SIGNATURES, *BODIES, *TRANSPORT, *NO_OBJECTS, *STRANGE_OBJECTS]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


async def read_answer(reader: asyncio.StreamReader) -> Answer | None:
    status_line = await reader.readline()
    if not status_line:
        return None
    length = 0
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return Answer(int(status_line.split()[1]), await reader.readexactly(length))


@dataclass(frozen=True)
class Hub:
    port: int

    async def exchange(self, *pieces: bytes, leaves: bool = False) -> Answer | None:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.01 if len(pieces) > 1 or leaves else 0)
                return None if leaves else await read_answer(reader)
            except ConnectionError:
                return None
            finally:
                writer.close()

    async def status(self, *pieces: bytes) -> int | None:
        answer = await self.exchange(*pieces)
        return answer.status if answer else None


@pytest_asyncio.fixture(name="hub", loop_scope="module", scope="module")
async def _hub(mongodb_uri: str) -> AsyncIterator[Hub]:
    """One process for all cases: none may harm the next."""
    name = f"hub-test-{uuid4().hex}"
    settings = Settings.isolated(
        mongodb_uri=mongodb_uri,
        mongodb_db_name=name,
        mongodb_min_pool_size=0,
        encryption_secret="bad-input-encryption-secret",
        whatsapp_app_secret=SECRET.decode(),
        whatsapp_verify_token=TOKEN,
        assistant="none",
        rate_limit_webhook="100000/minute",
        rate_limit_health="100000/minute",
        drain_timeout_s=1,
        timing={"body_timeout_s": 1.0, "round_s": 0.05},
    )
    runner = make_runner(create_app(settings))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hub = Hub(runner.addresses[0][1])
    async with asyncio.timeout(20):
        while await hub.status(get("", path="/ready")) != 200:
            await asyncio.sleep(0.05)
    yield hub
    await runner.cleanup()
    async with connect(mongodb_uri, name, min_pool_size=0) as database:
        await database.client.drop_database(name)


def find_errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the errors that were logged, but for what became of old messages afterwards."""
    return [record for record in caplog.records if record.levelno >= logging.ERROR and record.name != "conversation"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_bad_input_gets_its_status(hub: Hub, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    answer = await hub.exchange(*case.pieces, leaves=case.leaves)

    assert (answer.status if answer else None) == case.status
    if answer is not None and case.is_http:
        assert b"echo-me" not in answer.body
        if case.status not in {200, 405, 417}:
            assert set(json.loads(answer.body)) == {"error"}
    assert not case.is_http or find_errors(caplog) == []
    assert await hub.status(get("", path="/health")) == 200
    assert await hub.status(request()) == 200


async def test_a_good_handshake_passes_among_the_bad(hub: Hub) -> None:
    answer = await hub.exchange(get(GREETING))

    assert answer == Answer(200, b"echo-me")


async def test_bad_requests_on_one_connection_do_not_harm_the_good_ones(hub: Hub) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(request(b"null") + request(signature=b"") + request() + get("") + request())

    statuses = [(await read_answer(reader) or Answer(0, b"")).status for _ in range(5)]
    writer.close()

    assert statuses == [400, 401, 200, 403, 200]


async def test_there_are_at_least_forty_kinds() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
