"""What the tests of the shipped files share: a stand-in for a hub, and the shipped nginx in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.front import Front, open_front
from tests.deploy.stand_in import StandIn, open_stand_in


@pytest.fixture(name="stand_in")
async def _stand_in() -> AsyncIterator[StandIn]:
    async with open_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(name="front")
async def _front(stand_in: StandIn, tmp_path: Path) -> AsyncIterator[Front]:
    async with open_front([stand_in.port], tmp_path / "nginx") as front:
        yield front
