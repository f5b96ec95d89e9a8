"""Where the time of a run goes: py-spy's samples, added up by function and by layer."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rich.table import Table

from bench.processes import BenchFailed, Process
from bench.stage import Observer

RATE_HZ: Final = 100  # each sample stops the process for a moment
TOP: Final = 15
OUTSIDE: Final = "(HTTP server, event loop and threads, called by none of them)"
_SERVE: Final = "whatsapp_hub/server: serve"  # everything runs in it
_FRAME: Final = re.compile(r"(?P<function>.+) \((?P<file>[^()]*?)(?::\d+)?\)$")
#: What a file belongs to, the first that fits.
_LAYERS: Final[Mapping[str, str]] = {
    "whatsapp_hub/": "the hub",
    "aiohttp/client": "HTTP client (aiohttp)",
    "aiohttp/connector": "HTTP client (aiohttp)",
    "aiohttp/web": "HTTP server (aiohttp)",
    "aiohttp/": "HTTP, both sides (aiohttp)",
    "yarl/": "HTTP, both sides (aiohttp)",
    "multidict/": "HTTP, both sides (aiohttp)",
    "motor/": "database driver (Motor, PyMongo, bson)",
    "pymongo/": "database driver (Motor, PyMongo, bson)",
    "bson/": "database driver (Motor, PyMongo, bson)",
    "concurrent/": "threads for Motor",
    "threading": "threads for Motor",
    "queue": "threads for Motor",
    "asyncio/": "event loop (uvloop, asyncio; its C code and the kernel)",
    "prometheus_client/": "metrics",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Samples by what was running: shares that add up to 1, but for ``within``."""

    samples: int
    functions: Mapping[str, float]  #: what ran itself
    layers: Mapping[str, float]
    callers: Mapping[str, float]  #: the hub's innermost function, with what it called in libraries
    within: Mapping[str, float]  #: the hub's functions, with all that they called


class Recorder(Observer):
    """Samples the subject as long as the window lasts."""

    def __init__(self, file: Path, *, form: Literal["raw", "flamegraph"] = "raw") -> None:
        """Write the samples to ``file``: collapsed stacks, or a picture (SVG)."""
        self._file = file
        self._form = form
        self._process: subprocess.Popen[bytes] | None = None
        self.garbage_s = 0.0  #: how long the garbage collector worked; in the samples it is whoever set it off

    def began(self, subject: Process) -> None:
        subject.signal(signal.SIGUSR1)
        self.garbage_s -= float(subject.hear())
        program = shutil.which("py-spy") or shutil.which("py-spy", path=sysconfig.get_path("scripts"))
        if program is None:
            raise BenchFailed("py-spy is missing; install it: pip install 'whatsapp-hub[bench]'")
        # Holding the interpreter's lock is what counts as running: py-spy cannot tell a thread that waits in C from one
        # that works there, and Motor has dozens that wait.
        arguments = ("--pid", str(subject.pid), "--gil", "--rate", str(RATE_HZ), "--duration", "600")
        self._process = subprocess.Popen(
            ["py-spy", "record", *arguments, "--format", self._form, "--output", str(self._file)],
            executable=program,  # its path would stand in the picture
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def ended(self, subject: Process) -> None:
        subject.signal(signal.SIGUSR1)
        self.garbage_s += float(subject.hear())
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=60)
        if not self._file.exists():
            raise BenchFailed(f"py-spy recorded nothing: {errors.decode(errors='replace')[-500:]}")


def read_samples(lines: Iterable[str]) -> Profile:
    """Add up collapsed stacks: frames from the outermost to the innermost, a blank, a count."""
    functions: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    callers: Counter[str] = Counter()
    within: Counter[str] = Counter()
    samples = 0
    for line in lines:
        stack, _, count = line.strip().rpartition(" ")
        frames = [_read_frame(frame) for frame in stack.split(";")]
        weight = int(count)
        samples += weight
        functions[_name(*frames[-1])] += weight
        layers[find_layer([file for _, file in frames])] += weight
        ours = [_name(function, file) for function, file in frames if file.startswith("whatsapp_hub/")]
        callers[ours[-1] if ours and ours[-1] != _SERVE else OUTSIDE] += weight
        within.update(dict.fromkeys(ours, weight))
    return Profile(
        samples=samples,
        functions=_shares(functions, samples),
        layers=_shares(layers, samples),
        callers=_shares(callers, samples),
        within=_shares(within, samples),
    )


def find_layer(files: list[str]) -> str:
    """Return what the innermost known file of a stack belongs to."""
    for file in reversed(files):
        for prefix, layer in _LAYERS.items():
            if file.startswith(prefix):
                return layer
    return "other"


def _read_frame(frame: str) -> tuple[str, str]:
    found = _FRAME.fullmatch(frame)
    return (found["function"], found["file"]) if found else (frame, "")


def _name(function: str, file: str) -> str:
    return f"{file.removesuffix('.py')}: {function}" if file else function


def _shares(counts: Counter[str], samples: int) -> dict[str, float]:
    return {name: count / samples for name, count in counts.most_common()}


def profile_tables(name: str, profile: Profile, cpu_us: float, unit: str) -> list[Table]:
    """Show where the CPU of one unit goes."""
    titles = (
        ("by layer (where the innermost known code is)", profile.layers),
        ("by function, itself", profile.functions),
        ("by the hub's innermost function, with what it calls in libraries", profile.callers),
        ("the hub's functions, with all that they call", profile.within),
    )
    return [
        _share_table(f"{name}, {title}; {profile.samples} samples, {cpu_us:.0f} µs/{unit}", shares, cpu_us)
        for title, shares in titles
    ]


def _share_table(title: str, shares: Mapping[str, float], cpu_us: float) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("share", justify="right")
    table.add_column("µs", justify="right")
    table.add_column("", no_wrap=True)
    for name, share in list(shares.items())[:TOP]:
        table.add_row(f"{share:.1%}", f"{share * cpu_us:.1f}", name)
    return table
