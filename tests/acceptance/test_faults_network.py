"""F25: Graph has no name, nobody listens at its address, or it shows a wrong certificate; then that is mended."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.faults.driver import name_customer
from tests.faults.hubs import HOST
from tests.faults.outages import REFUSED_WITHIN_S
from tests.faults.world import World, open_world
from tests.hub import until

pytestmark = pytest.mark.deadlines

GRAPH: Final = "graph.test"
NOBODY: Final = "127.0.0.9"  #: an address at which nobody listens
RETRIES: Final = {"retry_base_s": 0.1, "retry_max_s": 0.5}
CUSTOMERS: Final = 5


class Names:
    """What a process takes for ``/etc/hosts``, in a mount namespace of its own; there is no other name server."""

    def __init__(self, folder: Path) -> None:
        """Know no name. Skips the test where that cannot be done."""
        if os.geteuid() != 0:
            pytest.skip("only root may mount files over others")
        self._hosts, self._servers = folder / "hosts", folder / "resolv.conf"
        self._servers.write_text(f"nameserver {HOST}\noptions timeout:1 attempts:1\n")
        self.name(None)

    def name(self, address: str | None) -> None:
        """Give Graph this address, or none."""
        # Written over and not replaced: it is this file that is mounted.
        self._hosts.write_text(f"{HOST} localhost\n" + (f"{address} {GRAPH}\n" if address else ""))

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command behind which a process sees these names."""
        mounts = f"mount --bind {self._hosts} /etc/hosts && mount --bind {self._servers} /etc/resolv.conf"
        return ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")


async def say_to_all(world: World) -> None:
    async with asyncio.TaskGroup() as group:
        for index in range(CUSTOMERS):
            group.create_task(world.driver.say("101", name_customer(index)))


def failures(world: World, word: str) -> int:
    lines = world.hubs[0].log_path.read_text().splitlines()
    return sum('"reply not sent"' in line and word in line and '"retry"' in line for line in lines)


async def until_failed(world: World, word: str, more: int = CUSTOMERS) -> None:
    """Wait until so many more sends have failed."""
    wanted = failures(world, word) + more

    async def have() -> bool:
        return failures(world, word) >= wanted

    await until(have)


async def assert_answered_at_the_first_attempt(world: World) -> None:
    """Check that no attempt was burned and nothing is in doubt: all this time nothing was sent."""
    await world.assert_holds()
    rows: list[dict[str, Any]] = await world.database.inbox.find({}).to_list(None)
    assert {(row["state"], row["attempts"]) for row in rows} == {("done", 1)}
    assert await world.hubs[0].sample("whatsapp_hub_replies_total", result="ambiguous") == 0
    assert len(world.graph.log.sends) == len(world.graph.log.accepted)
    acks = [m.acked_at - m.sent_at for m in world.driver.messages if m.acked_at is not None]
    assert max(acks) < REFUSED_WITHIN_S


async def test_name_that_does_not_resolve_or_leads_nowhere_is_asked_for_again(tmp_path: Path) -> None:
    names = Names(tmp_path)
    async with open_world(prefix=names.prefix, graph_host=GRAPH, timing=RETRIES) as world:
        await say_to_all(world)
        await until_failed(world, "ClientConnectorDNSError")
        names.name(NOBODY)
        await until_failed(world, "ClientConnectorError")
        assert not world.graph.log.sends
        names.name(HOST)
        # Far less than a name is remembered for: the address that does not answer is not kept.
        await world.at_rest(5)
        await assert_answered_at_the_first_attempt(world)


# TLS


class Certificates:
    """An authority of our own, and what it signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("an authority")
        authority = self._build(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.authority = folder / "authority.pem"
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))

    def sign_for(self, host: str) -> Path:
        """Return a file with a certificate for a host, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(_name(host), key, x509.SubjectAlternativeName([x509.DNSName(host)]))
        file = self._folder / f"{host}.pem"
        private = serialization.PrivateFormat.PKCS8
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Front:
    """TLS in front of the stand-in, with whatever certificate it is given."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate)
        self.target_port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        inner_reader, inner_writer = await asyncio.open_connection(HOST, self.target_port)
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_carry(reader, inner_writer))
            ways.create_task(_carry(inner_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def open_front(certificate: Path) -> AsyncIterator[tuple[Front, int]]:
    front = Front(certificate)
    server = await asyncio.start_server(front.accept, HOST, 0, ssl=front.context)
    try:
        yield front, server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.mark.rehearsal
async def test_wrong_certificate_is_tried_again_until_it_is_the_right_one(certificates: Certificates) -> None:
    wrong, right = certificates.sign_for("elsewhere.test"), certificates.sign_for("localhost")
    async with open_front(wrong) as (front, port):
        settings = {"GRAPH_API_BASE_URL": f"https://localhost:{port}", "SSL_CERT_FILE": str(certificates.authority)}
        async with open_world(prefix=("env",), environment=settings, timing=RETRIES) as world:
            front.target_port = int(world.graph_url.rpartition(":")[2])
            await say_to_all(world)
            await until_failed(world, "ClientConnectorCertificateError")
            assert not world.graph.log.sends
            front.context.load_cert_chain(right)
            await world.at_rest(10)
            await assert_answered_at_the_first_attempt(world)
