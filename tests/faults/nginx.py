"""Nginx in front of several hubs: one process of ours, with everything that it writes in our folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.hubs import HOST, choose_port, end_with_parent

START_TIMEOUT_S: Final = 5.0
_CONFIG: Final = """
daemon off;
master_process off;
pid nginx.pid;
error_log nginx.log warn;
events { worker_connections 4096; }
http {
    access_log off;
    client_max_body_size 5m;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    upstream hubs {
        %(servers)s
        keepalive 32;
    }
    server {
        listen %(address)s backlog=1024;
        location / {
            proxy_pass http://hubs;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_connect_timeout 1s;
            proxy_read_timeout 3s;
        }
    }
}
"""


@asynccontextmanager
async def open_nginx(ports: Sequence[int], folder: Path) -> AsyncIterator[str]:
    """Share out requests to these ports of this machine in turn, and yield the address to send them to."""
    home = folder / "nginx"
    (home / "tmp").mkdir(parents=True)
    address = f"{HOST}:{choose_port()}"
    servers = "\n        ".join(f"server {HOST}:{port} max_fails=1 fail_timeout=1s;" for port in ports)
    (home / "nginx.conf").write_text(_CONFIG % {"servers": servers, "address": address})
    process = _start(home)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await wait_until_open(address, process, home / "nginx.log")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _start(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*end_with_parent(), find_nginx(), "-p", str(home), "-c", "nginx.conf", "-e", "nginx.log"],
        stdin=subprocess.DEVNULL,
    )


async def wait_until_open(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it takes connections."""
    host, _, port = address.partition(":")
    while True:
        assert process.poll() is None, f"nginx ended: {log}"
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        await writer.wait_closed()
        return


def find_nginx() -> str:
    """Return the program."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    assert program is not None, "nginx is missing: apt-get install nginx-light"
    return program
