"""Who used the CPU, from the kernel's own accounting. Linux only."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.plan import Cpu

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_IDLE_COLUMNS: Final = frozenset({3, 4, 7})  # idle, waiting for the disk, stolen by the hypervisor


def read_cpu(pid: int) -> Cpu:
    """Return the CPU time of a process since its start, with all its threads."""
    # The second field, the program's name in brackets, may contain anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Cpu(user_s=int(fields[11]) / _TICKS_PER_S, system_s=int(fields[12]) / _TICKS_PER_S)


def sum_cpu(times: Sequence[Cpu]) -> Cpu:
    """Add up the CPU time of several processes."""
    return Cpu(user_s=sum(cpu.user_s for cpu in times), system_s=sum(cpu.system_s for cpu in times))


def read_memory_mb(pid: int) -> float:
    """Return how much of the memory a process has now, in millions of bytes (its resident set)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """How long each core has worked and has been there, in ticks."""

    worked: Mapping[int, int]
    passed: Mapping[int, int]

    def share_since(self, earlier: Busy, cores: Collection[int]) -> float:
        """Return how much of these cores was used by anybody."""
        passed = sum(self.passed[core] - earlier.passed[core] for core in cores)
        worked = sum(self.worked[core] - earlier.worked[core] for core in cores)
        return worked / passed if passed else 0.0


def read_busy() -> Busy:
    """Read what all cores have done since the machine started."""
    worked, passed = {}, {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(column) for column in columns[:8]]  # the rest is counted in the first two already
            core = int(name.removeprefix("cpu"))
            passed[core] = sum(ticks)
            worked[core] = sum(tick for column, tick in enumerate(ticks) if column not in _IDLE_COLUMNS)
    return Busy(worked=worked, passed=passed)
