"""Side tasks that have to run as long as the process: if one dies the process stops, and is started anew."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("hub")


class SideTasks:
    """Tasks beside the requests, each known by its name."""

    def __init__(self) -> None:
        """Start empty."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._passing: set[asyncio.Task[Any]] = set()
        self.failed = False  #: whether one has died

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run it until ``stop``. It is expected never to end by itself."""
        task = self._tasks[name] = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._ended)

    def start_passing(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that ends by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def stop(self, *names: str) -> None:
        """Cancel these, or all, and wait until they have ended."""
        tasks = [self._tasks.pop(name) for name in names or tuple(self._tasks)]
        if not names:
            tasks += self._passing
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.get_name() not in self._tasks:
            return
        self.failed = True
        logger.critical("side task died, stopping", extra={"task": task.get_name()}, exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
