"""The nginx that is shipped, as it is shipped: only addresses and paths are others, and what a test names."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from tests.deploy.certificates import HOST, Authority
from tests.faults.hubs import choose_port, end_with_parent
from tests.faults.nginx import START_TIMEOUT_S, find_nginx, wait_until_open
from tests.hub import until

PATH: Final = "/whatsapp_response"
HANDSHAKE: Final = {"hub.mode": "subscribe", "hub.verify_token": "verify-me-4711", "hub.challenge": "1158201444"}
DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CONFIG: Final = DEPLOY / "nginx.conf"
_SERVER: Final = re.compile(r"^server 127\.0\.0\.1:800(\d) (.*;)$", re.MULTILINE)
_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """An nginx that runs."""

    home: Path
    http_port: int
    https_port: int
    authority: Authority

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"https://{HOST}:{self.https_port}"

    async def logged(self, count: int) -> list[dict[str, Any]]:
        """Return the lines of the access log, once there are so many: one is written after its request."""

        async def are_there() -> list[bytes] | None:
            lines = (self.home / "access.log").read_bytes().splitlines()
            return lines if len(lines) >= count else None

        lines = await until(are_there)
        assert len(lines) == count
        return [orjson.loads(line) for line in lines]

    def logs(self) -> str:
        """Return all that it has written down by now, as it is."""
        return "".join((self.home / name).read_text() for name in ("access.log", "error.log"))


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Replace each of these pieces wherever it stands; every one has to be there."""
    for old, new in changes.items():
        assert old in text, f"the file has no {old!r} any more"
        text = text.replace(old, new)
    return text


def name_hubs(ports: Sequence[int]) -> str:
    """Return ``hubs.conf`` for a server with these hubs: the shipped one with other ports."""
    text = (DEPLOY / "nginx" / "hubs.systemd.conf").read_text()
    lines = _SERVER.findall(text)
    assert [number for number, _ in lines] == ["1", "2", "3", "4"]
    return "\n".join(f"server {HOST}:{port} {options}" for port, (_, options) in zip(ports, lines, strict=False))


@asynccontextmanager
async def open_front(
    ports: Sequence[int],
    home: Path,
    *,
    switches: Sequence[str] = (),
    changes: Mapping[str, str] = {},
    hubs: str | None = None,
) -> AsyncIterator[Front]:
    """Run the shipped nginx in front of hubs at these ports, with these of its switches on."""
    front = write_front(ports, home, switches=switches, changes=changes, hubs=hubs)
    check = await asyncio.to_thread(run_nginx, home, "-t")
    assert check.returncode == 0, check.stderr
    assert "[warn]" not in check.stderr, check.stderr
    process = _start(home)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await wait_until_open(f"{HOST}:{front.https_port}", process, home / "error.log")
        yield front
    finally:
        process.terminate()
        process.wait()


def write_front(
    ports: Sequence[int],
    home: Path,
    *,
    switches: Sequence[str] = (),
    changes: Mapping[str, str] = {},
    hubs: str | None = None,
) -> Front:
    """Write what ``open_front`` runs."""
    (home / "tls").mkdir(parents=True)
    authority = Authority(home / "tls")
    authority.issue("hub.example", "tls")
    front = Front(home=home, http_port=choose_port(), https_port=choose_port(), authority=authority)
    text = changed(CONFIG.read_text(), {f"#{switch} ": "" for switch in switches})
    text = changed(text, {**_places(front), **changes})
    (home / "nginx.conf").write_text(text)
    (home / "hubs.conf").write_text(name_hubs(ports) if hubs is None else hubs)
    return front


def _places(front: Front) -> dict[str, str]:
    """Return all that is another in a test: addresses and paths."""
    folders = "".join(f"{name}_temp_path {front.home}/{name}; " for name in _TEMPORARY)
    return {
        "listen 80 ": f"listen {HOST}:{front.http_port} ",
        "listen 443 ": f"listen {HOST}:{front.https_port} ",
        "/etc/nginx/tls/": f"{front.home}/tls/",
        "/var/log/nginx/": f"{front.home}/",
        "/var/www/acme": f"{front.home}/acme",
        "http {\n": f"http {{\n    {folders}\n",
    }


def run_nginx(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nginx on the files in ``home``, until it ends."""
    return subprocess.run([*_command(home), *arguments], capture_output=True, text=True, check=False, timeout=10)


def _start(home: Path) -> subprocess.Popen[bytes]:
    command = [*end_with_parent("TERM"), *_command(home)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _command(home: Path) -> list[str]:
    # Its workers have to get at a test's folders, which are nobody else's.
    user = "user root; " if os.geteuid() == 0 else ""
    options = f"daemon off; pid {home}/nginx.pid; {user}"
    return [find_nginx(), "-p", str(home), "-c", "nginx.conf", "-e", "error.log", "-g", options]


@asynccontextmanager
async def client_of(
    front: Front, address: str = "127.0.0.1", certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open connections to nginx from this address of loopback, with a certificate or none."""
    tls = front.authority.trusted(certificate)
    connector = aiohttp.TCPConnector(ssl=tls, local_addr=(address, 0), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def ask(front: Front, method: str = "POST", path: str = PATH, **options: Any) -> int:
    """Make one request on a connection of its own; return the status."""
    async with client_of(front) as client:
        return await ask_by(client, front, method, path, **options)


async def ask_by(
    client: aiohttp.ClientSession, front: Front, method: str = "POST", path: str = PATH, **options: Any
) -> int:
    """Make one request; return the status. ``options`` go to aiohttp's client."""
    async with client.request(method, URL(front.url + path, encoded=True), **options) as response:
        await response.read()
        return response.status


def whole(body: bytes) -> BytesIO:
    """Return a large body as aiohttp likes it; it warns of bytes."""
    return BytesIO(body)


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in pieces, so that it is sent chunked."""
    for at in range(0, len(body), 50_000):
        yield body[at : at + 50_000]
