from __future__ import annotations

import asyncio

from whatsapp_hub.telemetry import health as health_module
from whatsapp_hub.telemetry.health import LAG_LIMIT_S, LAG_MEMORY_S, VERDICT_MAX_AGE_S, Health
from whatsapp_hub.telemetry.metrics import Metrics


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_health(clock: Clock | None = None) -> Health:
    return Health(Metrics(), clock=clock or Clock())


def test_nothing_is_ready_before_the_database_answered() -> None:
    health = make_health()

    assert health.reasons() == ["database not yet reached"]
    assert not health.database_ok
    assert health.alive


def test_answer_makes_ready_and_failure_says_why() -> None:
    health = make_health()
    health.database_answered()
    assert (health.reasons(), health.database_ok) == ([], True)

    health.database_failed("no majority of the replica set answers")
    assert (health.reasons(), health.database_ok) == (["no majority of the replica set answers"], False)
    assert health.alive


def test_old_verdict_is_no_verdict() -> None:
    clock = Clock()
    health = make_health(clock)
    health.database_answered()
    clock.now += VERDICT_MAX_AGE_S
    assert health.database_ok

    clock.now += 1

    assert health.reasons() == ["database silent for 4 s"]
    assert not health.database_ok


def test_stopping_is_neither_ready_nor_alive() -> None:
    health = make_health()
    health.database_answered()

    health.stop()

    assert health.reasons() == ["stopping"]
    assert health.database_ok
    assert (health.stopping, health.alive) == (True, False)


def test_metric_follows_readiness() -> None:
    metrics = Metrics()
    health = Health(metrics, clock=Clock())
    assert metrics.registry.get_sample_value("whatsapp_hub_ready") == 0

    health.database_answered()
    assert metrics.registry.get_sample_value("whatsapp_hub_ready") == 1

    health.stop()
    assert metrics.registry.get_sample_value("whatsapp_hub_ready") == 0


async def test_blocked_loop_shows_at_once_and_for_a_while() -> None:
    clock = Clock()
    health = make_health(clock)
    watch = asyncio.create_task(health.watch_loop())
    await asyncio.sleep(0)
    assert health.loop_lag_s == 0

    clock.now += health_module.LAG_CHECK_S + LAG_LIMIT_S + 1  # the watch has not had its turn yet
    assert health.loop_lag_s == LAG_LIMIT_S + 1
    assert not health.alive

    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    assert health.loop_lag_s == 0


def test_lag_is_measured_and_forgotten() -> None:
    clock = Clock()
    health = make_health(clock)

    health._note_lag(LAG_LIMIT_S)
    health._note_lag(0.01)
    assert health.loop_lag_s == LAG_LIMIT_S
    assert not health.alive

    clock.now += LAG_MEMORY_S
    assert health.loop_lag_s == 0
    assert health.alive


async def test_loop_that_turns_does_not_lag() -> None:
    health = Health(Metrics())
    watch = asyncio.create_task(health.watch_loop())
    for _ in range(10):
        await asyncio.sleep(0.002)

    assert health.loop_lag_s < LAG_LIMIT_S

    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
