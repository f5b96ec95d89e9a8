"""The log of refused webhooks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from whatsapp_hub.http.refusals import RefusalLog


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, int]]:
    return [(record.status, record.reason, record.count) for record in caplog.records]  # type: ignore[attr-defined]


async def test_the_first_refusal_is_written_at_once(caplog: pytest.LogCaptureFixture) -> None:
    RefusalLog(window_s=10).add(401, "forged")

    assert lines(caplog) == [(401, "forged", 1)]
    assert caplog.records[0].levelno == logging.WARNING


async def test_a_flood_is_written_as_numbers(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(window_s=0.02)
    for _ in range(100):
        log.add(401, "forged")
    log.add(413, "large")
    await asyncio.sleep(0.05)

    assert lines(caplog) == [(401, "forged", 1), (401, "forged", 99), (413, "large", 1)]


async def test_after_a_quiet_time_the_next_is_written_at_once(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(window_s=0.01)
    log.add(401, "forged")
    await asyncio.sleep(0.03)
    log.add(401, "forged")

    assert lines(caplog) == [(401, "forged", 1), (401, "forged", 1)]
