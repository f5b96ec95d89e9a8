"""Keeps CPUs awake: asks the kernel for no delay at all, so that a CPU without work polls instead of halting.

On a virtual machine a hub at part load costs more, and is later, when its CPUs halt in between; presumably because the
host gives them to others meanwhile. A process that spins on each CPU will not do: under ``SCHED_IDLE`` it kept a worker
of the kernel, and so the database's journal, waiting for 1.7 s (``docs/performance.md``, "Under load"). Linux only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import BenchFailed

#: Takes the delay that is tolerable, in µs as a native 32-bit integer, and heeds it while it is open.
#: https://docs.kernel.org/admin-guide/pm/cpuidle.html#power-management-quality-of-service-for-cpus
LATENCY_DEVICE: Final = Path("/dev/cpu_dma_latency")
#: One folder for each way to idle; there is none where the kernel halts without asking how long that takes.
IDLE_STATES: Final = Path("/sys/devices/system/cpu/cpu0/cpuidle")
_NO_DELAY: Final = bytes(4)


@contextmanager
def kept_awake(device: Path = LATENCY_DEVICE, states: Path = IDLE_STATES) -> Iterator[None]:
    """Let no CPU halt. Raises ``BenchFailed`` where that cannot be had."""
    if not any(states.glob("state*")):
        raise BenchFailed(f"cores cannot be kept awake: this kernel has no idle states ({states}); leave out --awake")
    try:
        request = device.open("wb", buffering=0)
    except OSError as error:
        raise BenchFailed(f"cores cannot be kept awake: {error}; run as root, or leave out --awake") from error
    with request:
        request.write(_NO_DELAY)
        yield
