"""The nginx of ``docs/migration.md`` in front of the old service and its shadow: run as it stands in the manual."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.hubs import HOST, choose_port, end_with_parent
from tests.faults.nginx import find_nginx, wait_until_open

MANUAL: Final = Path(__file__).parents[2] / "docs" / "migration.md"
_START_TIMEOUT_S: Final = 5.0
_AROUND: Final = """
daemon off;
master_process off;
pid nginx.pid;
error_log nginx.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 5m;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    server {{
        listen {address};
        {locations}
    }}
}}
"""


def read_manual(*, old: str, shadow: str) -> str:
    """Return the manual's locations, with these addresses in the place of its examples."""
    (block,) = re.findall(r"```nginx\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    assert "http://127.0.0.1:8080" in block
    assert "http://127.0.0.1:8000" in block
    return str(block).replace("http://127.0.0.1:8080", old).replace("http://127.0.0.1:8000", shadow)


@asynccontextmanager
async def open_mirror(*, old: str, shadow: str, folder: Path) -> AsyncIterator[str]:
    """Run it and yield its address."""
    (folder / "tmp").mkdir()
    address = f"{HOST}:{choose_port()}"
    (folder / "nginx.conf").write_text(_AROUND.format(address=address, locations=read_manual(old=old, shadow=shadow)))
    process = _start(folder)
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            await wait_until_open(address, process, folder / "nginx.log")
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*end_with_parent(), find_nginx(), "-p", str(folder), "-c", "nginx.conf", "-e", "nginx.log"],
        stdin=subprocess.DEVNULL,
    )
