"""The check of Meta's client certificate, switched on in the shipped nginx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.certificates import Authority
from tests.deploy.front import HANDSHAKE, PATH, Front, ask, ask_by, client_of, open_front
from tests.deploy.stand_in import StandIn

META: Final = "client.webhooks.fbclientcerts.com"


@pytest.fixture(name="guarded")
async def _guarded(stand_in: StandIn, tmp_path: Path) -> AsyncIterator[tuple[Front, Authority]]:
    """An nginx that asks for certificates, and the authority that it believes."""
    (tmp_path / "meta").mkdir()
    meta = Authority(tmp_path / "meta", "Meta")
    path = {f"{tmp_path}/nginx/tls/meta-outbound-api-ca.pem": str(meta.path)}
    async with open_front([stand_in.port], tmp_path / "nginx", switches=["mtls", "api"], changes=path) as front:
        yield front, meta


async def test_webhooks_pass_with_metas_certificate_only(stand_in: StandIn, guarded: tuple[Front, Authority]) -> None:
    front, meta = guarded
    (front.home / "other").mkdir()
    other = Authority(front.home / "other", "Meta")
    shown = {
        "Meta's": (meta.issue(META, "right"), 200),
        "Meta's, with more in its name": (meta.issue(META, "more", organization="Meta"), 200),
        "none": (None, 403),
        "another's": (other.issue(META, "forged"), 400),
        "Meta's, of another name": (meta.issue("client.other.fbclientcerts.com", "other"), 403),
        "Meta's, of a longer name": (meta.issue(f"{META}.example", "longer"), 403),
        "Meta's, that hides the name": (meta.issue("x", "hidden", organization=f"x,CN={META}"), 403),
    }
    for what, (certificate, status) in shown.items():
        async with client_of(front, certificate=certificate) as client:
            assert await ask_by(client, front) == status, what
            assert await ask_by(client, front, "GET", params=HANDSHAKE) == status, what
    assert len(stand_in.seen) == 4


async def test_path_does_not_stand_for_a_certificate(stand_in: StandIn, guarded: tuple[Front, Authority]) -> None:
    front, _ = guarded
    for path in (f"{PATH}/SUCCESS%20CN={META}", f"/api/v1/..%2f..{PATH}", f"/api/../{PATH}", f"{PATH}/api/"):
        assert await ask(front, path=path) == 403, path
    assert stand_in.seen == []
    assert await ask(front, path="/api/v1/b101/messages") == 200
