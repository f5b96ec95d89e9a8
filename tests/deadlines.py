"""Tests that hold a deadline run one at a time and go before what runs beside them."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress

import pytest

MARK = "deadlines"
MORE_PRIORITY = 10


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give those with deadlines to one worker, and those that share a world too."""
    for item in items:
        if item.get_closest_marker(MARK):
            item.add_marker(pytest.mark.xdist_group(MARK))
        elif "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Raise our priority: what a test starts inherits it. Only root may; others need a machine with some room."""
    if item.get_closest_marker(MARK) is None:
        return (yield)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, usual - MORE_PRIORITY)
    try:
        return (yield)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)
