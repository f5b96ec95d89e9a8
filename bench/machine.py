"""On what it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bench.processes import Cores

_PACKAGES: Final = ("aiohttp", "uvloop", "motor", "pymongo", "orjson")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine and the versions."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    packages: dict[str, str]
    database: str
    load: float  #: how many processes wanted a core in the minute before
    awake: bool  #: whether the cores were kept from idling

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB, {self.system}; Python {self.python}, {packages},"
            f" {self.database}; load before the start {self.load:.2f}{'; cores kept awake' if self.awake else ''}"
        )


def describe_machine(database: str, cores: Cores, *, awake: bool) -> Machine:
    """Look at this machine."""
    return Machine(
        cpu=read_model(Path("/proc/cpuinfo").read_text()),
        cores=len(cores.others | {cores.measured}),
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        system=f"Linux {platform.release()}",
        python=platform.python_version(),
        packages=dict(_find_versions()),
        database=database,
        load=os.getloadavg()[0],
        awake=awake,
    )


def read_model(cpuinfo: str) -> str:
    """Return the processor's name out of the kernel's description."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()


def _find_versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "missing"
