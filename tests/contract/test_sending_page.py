"""What docs/sending.md shows is what happens: its examples are sent as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest

from tests.api import Caller, api_key, stored_key
from tests.hub import Answer, Hub, StartHub, business
from whatsapp_hub.database import Database
from whatsapp_hub.http.api import MAX_API_BODY_BYTES
from whatsapp_hub.http.api_requests import MAX_IDEMPOTENCY_KEY
from whatsapp_hub.http.openapi_messages import KINDS

PAGE: Final = (Path(__file__).parents[2] / "docs" / "sending.md").read_text("utf-8")
COMMANDS: Final = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
KEY: Final = api_key("key of the bakery")[0]


@pytest.fixture
async def caller(database: Database, start_hub: StartHub) -> Caller:
    """The bakery."""
    document = business("101", subDomain="bakery", apiKeys=[stored_key("key of the bakery")])
    await database.businesses.insert_one(document)
    return Caller(hub=await start_hub(), sub_domain="bakery", key=KEY)


async def run(hub: Hub, command: str, **names: str) -> Answer:
    """Do what a command with ``curl`` would."""
    text = Template(command.replace("\\\n", "")).substitute(HUB=hub.url, KEY=KEY, **names)
    curl, url, *options = shlex.split(text)
    assert curl == "curl"
    assert {*options[::2]} <= {"-H", "-d"}
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(text.split(": ", 1) for option, text in given if option == "-H")
    data = dict(given).get("-d")
    return await hub.exchange("GET" if data is None else "POST", url.removeprefix(hub.url), data=data, headers=headers)


async def test_examples_of_the_page_do_what_it_says(caller: Caller) -> None:
    *sends, show, pause = COMMANDS
    assert len(sends) == 3
    answers = [await run(caller.hub, command) for command in sends]
    assert {answer.status for answer in answers} == {202}
    for answer in answers:
        await caller.reaches(answer.json["id"], "read")
    told = await run(caller.hub, show, ID=answers[0].json["id"])
    assert (told.json["state"], told.json.keys()) == ("read", shown_keys())
    paused = await run(caller.hub, pause)
    assert (paused.status, paused.json.keys()) == (200, {"paused_until"})
    assert len(caller.hub.texts) == 3
    assert "Your order is ready." in caller.hub.texts


def shown_keys() -> set[str]:
    """Return the keys of the answer that the page shows."""
    [shown] = re.findall(r'```json\n(\{\n  "id".*?)```', PAGE, re.DOTALL)
    return {*re.findall(r'^  "(\w+)":', shown, re.MULTILINE)}


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in KINDS.values()}))
def test_page_names_every_kind(kind: str) -> None:
    assert f"`{kind}`" in PAGE


def test_page_tells_the_limits_of_the_code() -> None:
    facts: dict[str, Any] = {"256 KiB": MAX_API_BODY_BYTES == 256 * 1024, "255 ASCII": MAX_IDEMPOTENCY_KEY == 255}
    assert all(words in PAGE.replace("\n", " ") and holds for words, holds in facts.items())
