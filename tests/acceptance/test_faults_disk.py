"""F22: the database's disk is full, and its syncs fail: writes are refused, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults.outages import BACK_WITHIN_S, Outage, assert_back, assert_quick, deliveries, talking
from tests.faults.world import World, open_world
from tests.hub import until

pytestmark = [pytest.mark.deadlines, pytest.mark.rehearsal, pytest.mark.timeout(120)]

DISK: Final = "400m"
CHUNK: Final = bytes(1024 * 1024)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, and a small one."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_full_disk_is_told_with_503_and_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    async with open_world(database_folder=small_disk / "database") as world:
        filler = small_disk / "filler"
        async with talking(world, for_s=12, rate_per_s=60):
            await asyncio.sleep(1)
            filling = asyncio.create_task(asyncio.to_thread(fill, filler))
            await filling
            began_at = time.monotonic()
            await until(lambda: has_refused(world, began_at), 30)
            await asyncio.sleep(2)
            filler.unlink()
            outage = await bring_back(world, began_at)
            await world.hubs[0].ready(BACK_WITHIN_S)
        await world.assert_holds()
        assert_back(world, outage)
        assert_quick(deliveries(world))


def fill(file: Path) -> None:
    """Write until nothing is left, and a little later again: what is freed meanwhile counts too."""
    with file.open("wb", buffering=0) as output:
        for _ in range(20):
            try:
                while True:
                    output.write(CHUNK)
            except OSError:
                time.sleep(0.1)


async def has_refused(world: World, after: float) -> bool:
    return any(one.status == 503 for one in deliveries(world) if one.began_at > after)


async def bring_back(world: World, began_at: float) -> Outage:
    """Start the server again if it has given up, and wait until it takes writes."""
    ended_at = time.monotonic()
    if has_ended(world):
        await world.kill_server()
        await world.start_server()
    await world.primary()
    return Outage(began_at=began_at, ended_at=ended_at, back_at=time.monotonic())


def has_ended(world: World) -> bool:
    stat = Path(f"/proc/{world.servers[0].pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
async def test_sync_that_fails_is_no_acknowledgement(error: str) -> None:
    """``mongod`` gives up when it cannot sync: whatever it has confirmed until then is there afterwards."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")
    async with open_world() as world:
        async with talking(world, for_s=8, rate_per_s=60):
            await asyncio.sleep(1)
            with failing_syncs(world, error):
                began_at = time.monotonic()

                async def is_over() -> bool:
                    return has_ended(world)

                await until(is_over, 20)
                await until(lambda: has_refused(world, began_at), 20)
            outage = await bring_back(world, began_at)
            await world.hubs[0].ready(BACK_WITHIN_S)
        await world.assert_holds()
        assert_back(world, outage)


@contextmanager
def failing_syncs(world: World, error: str) -> Iterator[None]:
    """Have every sync of the server fail from now on."""
    calls = "fdatasync,fsync"
    command = ["strace", "-f", "-qq", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    process = subprocess.Popen(
        [*command, "-o", "/dev/null", "-p", str(world.servers[0].pid)], stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
