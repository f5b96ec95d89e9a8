"""The description of the API tells the truth: schemathesis reads it, and asks a real hub for all that it promises."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.api import Caller, api_key, stored_key
from tests.hub import Hub, business, hubs_on, own_database
from whatsapp_hub.http.openapi_messages import KINDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Its command is not on the path where the virtual environment is not active.
SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
SEED = "7"
LIMITS = {"pattern", "format", "enum", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"}


@pytest_asyncio.fixture(name="caller", loop_scope="module", scope="module")
async def _caller(mongodb_uri: str) -> AsyncIterator[Caller]:
    async with own_database(mongodb_uri) as database, hubs_on(database, mongodb_uri) as start:
        await database.businesses.insert_one(business("101", apiKeys=[stored_key("key of 101")]))
        hub = await start(RATE_LIMIT_WEBHOOK="100000/minute", RATE_LIMIT_BUSINESS="100000/second")
        yield Caller(hub=hub, sub_domain="b101", key=api_key("key of 101")[0])


async def describe(hub: Hub) -> dict[str, Any]:
    answer = await hub.exchange("GET", "/api/v1/openapi.json")
    assert answer.status == 200
    description: dict[str, Any] = answer.json
    return description


async def test_description_names_every_route_of_the_api(caller: Caller) -> None:
    described = {
        (method.upper(), path) for path, methods in (await describe(caller.hub))["paths"].items() for method in methods
    }
    routes = {
        (route.method, route.resource.canonical)
        for route in caller.hub.app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/api/") and route.method != "HEAD"
    }
    assert described == routes - {("GET", "/api/v1/openapi.json")}


each_mode = pytest.mark.parametrize("mode", ["positive", "negative"])


@each_mode
async def test_hub_does_what_the_description_says(caller: Caller, tmp_path: Path, mode: str) -> None:
    await fuzz(caller, tmp_path, mode, "--phases", "fuzzing", "--max-examples", "6")


@pytest.mark.soak
@each_mode
async def test_hub_does_what_the_description_says_at_every_border(caller: Caller, tmp_path: Path, mode: str) -> None:
    """Longest and shortest, most and least, every part missing or of another type; and many more examples."""
    await fuzz(caller, tmp_path, mode, "--phases", "examples,coverage,fuzzing", "--max-examples", "200")


async def fuzz(caller: Caller, folder: Path, mode: str, *options: str) -> None:
    """Have it found out that what fits is taken or what does not is refused, and that all answers are described."""
    description = await describe(caller.hub)
    _name_the_business(description)
    if mode == "negative":
        _take_every_value(description)
    (folder / "openapi.json").write_bytes(orjson.dumps(description))
    process = await asyncio.create_subprocess_exec(
        *SCHEMATHESIS,
        *("run", "openapi.json", "--url", caller.hub.url, "--header", f"Authorization: Bearer {caller.key}"),
        *("--exclude-checks", "ignored_auth", "--suppress-health-check", "all", "--no-shrink", "--warnings", "off"),
        *("--seed", SEED, "--no-color", "--continue-on-failure", "--mode", mode, *options),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


def _name_the_business(description: Mapping[str, Any]) -> None:
    """Say which business and number there are, and use no key twice: what else is refused, other tests see to."""
    for methods in description["paths"].values():
        for operation in methods.values():
            operation["parameters"][0]["schema"] = {"const": "b101"}
            operation["parameters"] = [one for one in operation["parameters"] if one["in"] == "path"]
    for schema in description["components"]["schemas"].values():
        if "from" in schema.get("properties", {}):
            schema["properties"]["from"] = {"const": "101"}


def _take_every_value(description: Mapping[str, Any]) -> None:
    """Leave the form of messages alone, and no limits of their values: beyond these it is said in another way."""
    for name, (kind, _, _) in KINDS.items():
        properties = description["components"]["schemas"][name]["properties"]
        properties[kind] = _without_limits(properties[kind])


def _without_limits(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_limits(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_limits(value) for key, value in schema.items() if key not in LIMITS}
