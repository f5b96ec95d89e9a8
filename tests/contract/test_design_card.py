"""The design card: what the project's user asked for by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Recorder
from tests.hub import StartHub, business, text_message, webhook_of
from whatsapp_hub.database import Database

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def names_of(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize(
    "package",
    ["aiohttp", "motor", "async-lru", "cryptography", "aiohttp-ratelimiter", "prometheus-client", "orjson"],
)
def test_package_is_a_dependency(package: str) -> None:
    assert package in names_of(PROJECT["dependencies"])


def test_tests_use_pytest_aiohttp() -> None:
    assert "pytest-aiohttp" in names_of(PROJECT["optional-dependencies"]["dev"])


@pytest.mark.parametrize(
    "name", ["whatsapp_hub", "tests", "bench", "systemd", "Dockerfile", "setup.cfg", "pyproject.toml"]
)
def test_top_level_has_a_place(name: str) -> None:
    assert (ROOT / name).exists()


def test_python_and_licence() -> None:
    assert (PROJECT["requires-python"], PROJECT["license"]) == (">=3.11", "MIT")
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")


async def test_graph_is_asked_over_200_connections_at_most(
    database: Database, start_hub: StartHub, recorder: Recorder
) -> None:
    await database.businesses.insert_one(business("101"))
    recorder.may_answer.clear()
    hub = await start_hub(GRAPH_API_BASE_URL=recorder.url, RATE_LIMIT_BUSINESS="1000/second")
    crowd = [text_message("hello", wamid=f"wamid.{n}", sender=f"49{n}") for n in range(260)]
    assert await hub.post(webhook_of(*crowd, number="101")) == 200
    await recorder.hold(200)
    await hub.at_rest()
    assert recorder.most_running == 200
    assert len(recorder.asked) == 260
