"""The rehearsal of the first way to run it: installed on a booted machine, and what systemd makes of each mishap.

One machine lives through all of it, in this order. Each test prints its figures: ``make rehearsal``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import click
import pytest
import pytest_asyncio

from tests.faults.driver import PATH, Driver, name_customer
from tests.faults.history import Message
from tests.faults.hubs import HOST, choose_port
from tests.faults.machine import SOURCE, WHEELS, Machine, open_machine
from tests.faults.outages import PRODUCTION, answered_at, deliveries, talking
from tests.faults.world import World, open_world
from tests.hub import SECRET, until
from whatsapp_hub.demo.statuses import WebhookTarget
from whatsapp_hub.settings import VARIABLES

pytestmark = [pytest.mark.rehearsal, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

UNIT: Final = "whatsapp-hub.service"
SOCKET: Final = "whatsapp-hub.socket"
ETC: Final = "/etc/whatsapp-hub"
RATE_PER_S: Final = 60.0
WATCHDOG_S: Final = 4
TURN_S: Final = 3.0
#: An operator's own code: it says what it was told, at once or slowly, and hangs if somebody wants it to.
ASSISTANT: Final = f"""
import asyncio
import time
from pathlib import Path

HERE = Path(__file__).parent

class Own:
    async def reply(self, turn):
        if (HERE / "slow").exists():
            await asyncio.sleep({TURN_S})
        while (HERE / "hang").exists() and "hang" in turn.messages[-1].text:
            time.sleep(3600)
        return " ".join(message.text for message in turn.messages)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A booted machine, and the world that its hub is in."""

    machine: Machine
    world: World
    code: Path  #: the operator's, seen from out here
    port: int
    client: aiohttp.ClientSession

    async def install(self, *options: str) -> str:
        return await self.machine.run(f"{SOURCE}/systemd/install.sh", "--wheels", WHEELS, *options)

    def point_at(self, *ports: int) -> None:
        """Have webhooks and statuses go there."""
        self.world.driver.urls = [f"http://{HOST}:{port}" for port in ports]
        self.world.graph.statuses.target = WebhookTarget(url=self.world.driver.urls[0] + PATH, secret=SECRET.encode())

    async def is_ready(self, port: int) -> bool:
        try:
            async with self.client.get(f"http://{HOST}:{port}/ready", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def assert_holds(self) -> None:
        """Check everything, and that the journal keeps what it must not tell."""
        texts = [("journal", await self.machine.journal())]
        await self.world.assert_holds(timeout_s=60, texts=texts, statuses_echoed=False)

    async def say_all(self, count: int, first: int) -> list[Message]:
        says = (self.world.driver.say("101", name_customer(first + index)) for index in range(count))
        return await asyncio.gather(*says)


@pytest_asyncio.fixture(name="rehearsal", loop_scope="module", scope="module")
async def open_rehearsal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rehearsal]:
    folder = tmp_path_factory.mktemp("rehearsal")
    code = folder / "code"
    code.mkdir()
    code.chmod(0o755)
    (code / "own.py").write_text(ASSISTANT)
    own = {"ASSISTANTS": "own=own:Own", "ASSISTANT": "own"}
    async with (
        open_world(start=False, timing=PRODUCTION, environment=own) as world,
        open_machine(folder, (f"{code}:/srv/own",)) as machine,
        # A connection for each webhook: a request on an idle one that is kept open can meet its end.
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
    ):
        world.driver = Driver(client)
        yield Rehearsal(machine=machine, world=world, code=code, port=choose_port(), client=client)


def changed(machine: Machine, unit: str, name: str, text: str) -> None:
    """Change a unit as ``systemctl edit`` does."""
    folder = machine.path(f"/etc/systemd/system/{unit}.d")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.conf").write_text(text)


def write_settings(rehearsal: Rehearsal) -> None:
    """Do what an operator does after the first run: secrets into their files, the rest into ``.env``."""
    secrets = rehearsal.machine.path(f"{ETC}/credentials")
    lines: list[str] = []
    for name, value in rehearsal.world.hubs[0]._environment.items():
        if (secrets / name.lower()).exists():
            (secrets / name.lower()).write_text(value)
        elif name in VARIABLES or name.startswith("TIMING__"):
            lines.append(f"{name}={value}\n")
    rehearsal.machine.path(f"{ETC}/.env").write_text("".join(lines))


async def test_the_installer_puts_everything_in_place_and_the_second_run_starts_it(rehearsal: Rehearsal) -> None:
    machine, began_at = rehearsal.machine, time.monotonic()
    first = await rehearsal.install()
    took_s = time.monotonic() - began_at
    assert "not started  write the settings first" in first
    assert (await machine.run("stat", "-c", "%a %U", f"{ETC}/credentials/mongodb_uri")).split() == ["600", "root"]
    write_settings(rehearsal)
    for unit in (UNIT, "whatsapp-hub@.service"):
        changed(machine, unit, "code", "[Service]\nEnvironment=PYTHONPATH=/srv/own\n")
    changed(machine, SOCKET, "port", f"[Socket]\nListenStream=\nListenStream={HOST}:{rehearsal.port}\n")
    began_at = time.monotonic()
    second = await rehearsal.install()
    click.echo(f"\ninstalled in {took_s:.1f} s, the second run took {time.monotonic() - began_at:.1f} s")
    assert "is there" in second
    assert "runs         whatsapp-hub" in second
    assert await machine.show(UNIT, "ActiveState") == "active"
    assert await rehearsal.is_ready(rehearsal.port)
    rehearsal.point_at(rehearsal.port)
    exposure = (await machine.run("systemd-analyze", "security", "--no-pager", UNIT)).splitlines()[-1]
    click.echo(exposure.strip())

    async def says_so() -> bool:
        return await machine.show(UNIT, "StatusText") == "takes webhooks"

    await until(says_so)


async def test_a_webhook_starts_a_hub_that_does_not_run(rehearsal: Rehearsal) -> None:
    await rehearsal.machine.run("systemctl", "stop", UNIT)
    began_at = time.monotonic()
    message = await rehearsal.world.driver.say("101", name_customer(1))
    click.echo(f"\nstarted by the socket: the first webhook was answered after {time.monotonic() - began_at:.2f} s")
    assert [delivery.status for delivery in message.deliveries] == [200]
    await rehearsal.assert_holds()


async def test_a_restart_under_load_refuses_nothing_and_loses_nothing(rehearsal: Rehearsal) -> None:
    world, took_s = rehearsal.world, list[float]()
    said, tried = len(world.driver.messages), len(deliveries(world))
    async with talking(world, for_s=15, rate_per_s=RATE_PER_S):
        for _ in range(3):
            await asyncio.sleep(1)
            began_at = time.monotonic()
            await rehearsal.machine.run("systemctl", "restart", UNIT)
            took_s.append(time.monotonic() - began_at)
    acks_s = [m.acked_at - m.sent_at for m in world.driver.messages[said:] if m.acked_at is not None]
    click.echo(
        f"\nrestart under {RATE_PER_S:.0f} webhooks/s: {', '.join(f'{one:.2f}' for one in took_s)} s;"
        f" {len(acks_s)} webhooks, the longest ack {max(acks_s):.2f} s"
    )
    assert Counter(one.status for one in deliveries(world)[tried:]) == {200: len(acks_s)}
    await rehearsal.assert_holds()


async def test_a_killed_hub_comes_back_and_nothing_is_lost(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    before = int(await machine.show(UNIT, "NRestarts"))
    async with talking(world, for_s=8, rate_per_s=RATE_PER_S):
        await asyncio.sleep(2)
        killed_at = time.monotonic()
        await machine.run("systemctl", "kill", "--signal=KILL", "--kill-who=main", UNIT)
        await asyncio.sleep(0.2)
        await until(lambda: rehearsal.is_ready(rehearsal.port), 20)
        back_s = time.monotonic() - killed_at
    await rehearsal.assert_holds()
    click.echo(
        f"\nkill -9: takes webhooks again after {back_s:.2f} s, all answered {time.monotonic() - killed_at:.1f} s after"
    )
    assert int(await machine.show(UNIT, "NRestarts")) == before + 1


async def test_the_watchdog_ends_a_hub_whose_loop_hangs_and_the_journal_names_the_line(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    changed(machine, UNIT, "watchdog", f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    await machine.run("systemctl", "daemon-reload")
    await machine.run("systemctl", "restart", UNIT)
    hang = rehearsal.code / "hang"
    hang.touch()
    hung_at = time.monotonic()
    message = await world.driver.say("101", name_customer(7_001), text="hang")

    async def hangs() -> bool:
        return not await rehearsal.is_ready(rehearsal.port)

    await until(hangs)
    hang.unlink()
    await until(lambda: rehearsal.is_ready(rehearsal.port), 30)
    back_s = time.monotonic() - hung_at
    await rehearsal.assert_holds()
    answered_s = answered_at(world)[message.label] - hung_at
    click.echo(
        f"\nWatchdogSec={WATCHDOG_S}: takes webhooks again after {back_s:.1f} s, answered after {answered_s:.1f} s"
    )
    journal = await machine.journal(UNIT)
    assert "Watchdog timeout" in journal
    line = ASSISTANT.splitlines().index("            time.sleep(3600)") + 1
    assert f'/srv/own/own.py", line {line} in reply' in journal
    machine.path(f"/etc/systemd/system/{UNIT}.d/watchdog.conf").unlink()
    await machine.run("systemctl", "daemon-reload")


async def test_a_stop_waits_for_running_turns(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    slow = rehearsal.code / "slow"
    slow.touch()
    messages = await rehearsal.say_all(20, 8_000)
    began_at = time.monotonic()
    await machine.run("systemctl", "stop", UNIT)
    took_s = time.monotonic() - began_at
    answered = sum(message.label in answered_at(world) for message in messages)
    click.echo(
        f"\nstop with 20 turns of {TURN_S:g} s under way: {took_s:.2f} s, {answered} were answered before the end"
    )
    assert answered == len(messages)
    assert await machine.show(UNIT, "Result") == "success"
    slow.unlink()
    await machine.run("systemctl", "start", UNIT)
    await rehearsal.assert_holds()


async def test_a_reload_changes_levels_and_a_rotated_log_file_goes_on(rehearsal: Rehearsal) -> None:
    machine = rehearsal.machine
    dotenv = machine.path(f"{ETC}/.env")
    dotenv.write_text(f"{dotenv.read_text()}LOG_FILE=/var/log/whatsapp-hub/hub.log\n")
    await machine.run("systemctl", "restart", UNIT)
    rotation = machine.path("/etc/logrotate.d/whatsapp-hub")
    rotation.write_bytes((Path(__file__).parents[2] / "systemd" / "whatsapp-hub.logrotate").read_bytes())
    dotenv.write_text(dotenv.read_text().replace("LOG_LEVEL=INFO", "LOG_LEVEL=DEBUG"))
    await machine.run("logrotate", "--force", "/etc/logrotate.d/whatsapp-hub")
    log = machine.path("/var/log/private/whatsapp-hub/hub.log")

    async def goes_on() -> bool:
        return log.exists() and "settings reloaded" in log.with_name("hub.log.1").read_text() + log.read_text()

    await until(goes_on)
    assert '"changed":["LOG_LEVEL"]' in await machine.journal(UNIT)
    settings = dotenv.read_text().replace("LOG_LEVEL=DEBUG", "LOG_LEVEL=INFO").splitlines(keepends=True)
    dotenv.write_text("".join(line for line in settings if not line.startswith("LOG_FILE=")))
    await machine.run("systemctl", "restart", UNIT)


async def test_wrong_settings_are_told_and_not_tried_again(rehearsal: Rehearsal) -> None:
    machine = rehearsal.machine
    dotenv = machine.path(f"{ETC}/.env")
    right = dotenv.read_text()
    dotenv.write_text(f"{right}HISTORY_TURNS=many\n")
    status, _ = await machine.try_run("systemctl", "restart", UNIT)
    assert status != 0
    assert await machine.show(UNIT, "ExecMainStatus") == "2"
    assert "HISTORY_TURNS: 'many' is not a whole number" in await machine.journal(UNIT)
    dotenv.write_text(right)
    await machine.run("systemctl", "start", UNIT)


async def test_one_command_makes_four_and_a_restart_of_all_refuses_nothing(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    ports = range(rehearsal.port + 1, rehearsal.port + 5)
    began_at = time.monotonic()
    told = await rehearsal.install("--instances", "4", "--first-port", str(ports[0]))
    click.echo(f"\nfour instead of one: {time.monotonic() - began_at:.1f} s")
    assert "disabled     whatsapp-hub" in told
    assert all([await rehearsal.is_ready(port) for port in ports])
    rehearsal.point_at(*ports)
    said, tried = len(world.driver.messages), len(deliveries(world))
    async with talking(world, for_s=12, rate_per_s=RATE_PER_S):
        await asyncio.sleep(1)
        began_at = time.monotonic()
        await machine.run("systemctl", "restart", "whatsapp-hub.target")
        await until(lambda: are_active(machine, ports), 30)
        took_s = time.monotonic() - began_at
    acks_s = [m.acked_at - m.sent_at for m in world.driver.messages[said:] if m.acked_at is not None]
    click.echo(
        f"all four restarted at once in {took_s:.1f} s: {len(acks_s)} webhooks, the longest ack {max(acks_s):.2f} s"
    )
    assert Counter(one.status for one in deliveries(world)[tried:]) == {200: len(acks_s)}
    await rehearsal.assert_holds()


async def test_what_a_stopped_one_cannot_finish_the_others_take_over(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    ports = range(rehearsal.port + 1, rehearsal.port + 5)
    dotenv = machine.path(f"{ETC}/.env")
    dotenv.write_text(f"{dotenv.read_text()}DRAIN_TIMEOUT_S=1\n")
    await machine.run("systemctl", "restart", f"whatsapp-hub@{ports[0]}")
    slow = rehearsal.code / "slow"
    slow.touch()
    rehearsal.point_at(ports[0])
    messages = await rehearsal.say_all(20, 9_000)
    slow.unlink()
    rehearsal.point_at(*ports[1:])
    await machine.run("systemctl", "stop", f"whatsapp-hub@{ports[0]}")
    stopped_at = time.monotonic()
    await rehearsal.assert_holds()
    late_s = max(answered_at(world)[message.label] for message in messages) - stopped_at
    click.echo(f"\nstopped after 1 s of drain: the others had answered its 20 turns {late_s:+.2f} s from its end")
    assert late_s < 3
    await machine.run("systemctl", "start", f"whatsapp-hub@{ports[0]}")


async def test_an_upgrade_and_the_way_back(rehearsal: Rehearsal) -> None:
    world, machine = rehearsal.world, rehearsal.machine
    before = await machine.run("readlink", "/opt/whatsapp-hub/current")
    await machine.run(
        "sh",
        "-c",
        f"mkdir /tmp/new && cd {SOURCE} && cp -r whatsapp_hub requirements systemd"
        " pyproject.toml README.md LICENSE .env.example /tmp/new && echo >>/tmp/new/whatsapp_hub/__init__.py",
    )
    refused = world.driver.refused
    async with talking(world, for_s=5, rate_per_s=20):
        options = ("--instances", "4", "--first-port", str(rehearsal.port + 1))
        await machine.run("/tmp/new/systemd/install.sh", "--wheels", WHEELS, *options)
    after = await machine.run("readlink", "/opt/whatsapp-hub/current")
    assert after != before
    began_at = time.monotonic()
    async with talking(world, for_s=5, rate_per_s=20):
        await machine.run(f"{SOURCE}/systemd/install.sh", "--rollback")
        took_s = time.monotonic() - began_at
    click.echo(f"\nfour hubs back on the release from before in {took_s:.1f} s, one after the other")
    assert await machine.run("readlink", "/opt/whatsapp-hub/current") == before
    assert world.driver.refused == refused
    await rehearsal.assert_holds()


async def are_active(machine: Machine, ports: range) -> bool:
    units = [f"whatsapp-hub@{port}.service" for port in ports]
    return (await machine.try_run("systemctl", "is-active", *units))[0] == 0
