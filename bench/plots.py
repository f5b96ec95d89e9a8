"""``python -m bench.plots FILE...``: pictures of what was measured, PNG and SVG, out of the bench's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import matplotlib as mpl
import orjson
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.capacity import KNEE_MS
from bench.growth import USUAL
from bench.pictures import label

PICTURES: Final = Path(__file__).parent.parent / "docs" / "pictures"
PAPER: Final = "#fbfaf7"
INK: Final = "#24292f"
PALE: Final = "#8c959f"
HUB: Final = "#0b7a5c"
OTHER: Final = "#b9c0c7"
ALARM: Final = "#c2410c"
WIDTH_IN: Final = 8.0  # 800 pixels
DPI: Final = 200
_STYLE: Final[dict[Any, Any]] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlepad": 12,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "bench",
}

Told = Mapping[str, Any]


def read_results(files: Sequence[Path]) -> dict[str, Any]:
    """Put several files of the bench together; what was measured again counts from the later one."""
    scenarios: dict[str, Any] = {}
    studies: dict[str, Any] = {}
    for file in files:
        told = orjson.loads(file.read_bytes())
        scenarios |= {scenario["name"]: scenario for scenario in told["scenarios"]}
        studies |= told["studies"]
    return {**scenarios, **studies}


def _figure(title: str, height_in: float) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(w_pad=0.16, h_pad=0.14, hspace=0.12))
    if title:
        figure.suptitle(title, x=0.02, ha="left", size=12, weight="bold")
    return figure


def draw_costs(told: Told) -> Figure:
    """Show what a unit costs: the floor, the hub, and what a user would pick instead."""
    figure = _figure("", 4.2)
    upper, lower = figure.subplots(2, 1)
    acks, answers = told["ack"], told["answered"]
    guide = min(_cpu_us([run]) for run in (*answers["peers"]["the guide's"], *told["capacity"]["peer"]))  # at its best
    floor = "bare aiohttp"
    _bars(
        upper,
        "CPU time of one webhook acknowledged",
        {
            f"{floor}\nreads it, answers 200": _cpu_us(acks["floor"]),
            "WhatsApp Hub\nsigned, stored, then 200": _cpu_us(acks["hub"]),
            "pywa on FastAPI\nsigned, stores nothing": _cpu_us(acks["peers"]["pywa"]),
        },
        acks["ratio"]["median"],  # of pairs, and not of medians
    )
    _bars(
        lower,
        "CPU time of one message answered",
        {
            f"{floor}\nmakes the two calls": _cpu_us(answers["floor"]),
            "WhatsApp Hub\nstored, in order, once": _cpu_us(answers["hub"]),
            "FastAPI, Motor, httpx\nmakes the two calls": guide,
        },
        answers["ratio"]["median"],
    )
    return figure


def _cpu_us(runs: Sequence[Told]) -> float:
    return median(float(run["cpu_us"]) for run in runs)


def _bars(axes: Axes, title: str, values: Mapping[str, float], hub_ratio: float) -> None:
    names, widths = list(values), list(values.values())
    colours = [HUB if name.startswith("WhatsApp Hub") else OTHER for name in names]
    axes.barh(names, widths, color=colours, height=0.66)
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.25 * max(widths))
    for place, width in enumerate(widths):
        ratio = hub_ratio if colours[place] == HUB else width / widths[0]
        times = "" if place == 0 else f"   {ratio:.3g} ×"
        weight = "bold" if colours[place] == HUB else "normal"
        axes.text(width + 0.012 * max(widths), place, f"{width:,.0f} µs{times}", va="center", weight=weight)


def draw_latency(told: Told) -> Figure:
    """Show how late webhooks are acknowledged the more come, up to where it is too late."""
    figure = _figure("How late a webhook is acknowledged when more of them come", 4.4)
    axes = figure.subplots()
    stairs = told["capacity"]["stairs"]
    for processes, colour in (("2", PALE), ("1", HUB)):
        steps = [step for step in stairs.get(processes, ()) if step["ack_ms"]]
        rates = [step["rate"] for step in steps]
        words = "one process" if processes == "1" else f"{processes} processes\non one core"
        for percentile, line in (("p99", "-"), ("p50", ":")):
            values = [step["ack_ms"][percentile] for step in steps]
            axes.plot(rates, values, line, color=colour, marker="o", markersize=4)
            if processes == "1":
                axes.annotate(f"{percentile}  ", (rates[0], values[0]), color=colour, va="center", ha="right")
            if percentile == "p99":
                _label(axes, words, rates[-1], values[-1], colour)
    peer = max(told["capacity"]["peer"], key=lambda run: float(run["per_s"]))
    peer_words = f"{peer['per_s']:,.0f}/s, p50 {peer['ack_ms']['p50'] / 1000:.1f} s"
    axes.plot(peer["per_s"], peer["ack_ms"]["p50"], "s", color=ALARM)
    _label(axes, f"FastAPI, Motor and httpx, all it takes:\n{peer_words}", peer["per_s"], peer["ack_ms"]["p50"], ALARM)
    axes.axhline(KNEE_MS, color=PALE, linewidth=0.8)
    axes.text(8, KNEE_MS * 1.1, "budget of the p99: 50 ms", color=PALE, fontsize=9)
    axes.set_yscale("log")
    axes.set_yticks([1, 10, 100, 1_000, 10_000], ["1 ms", "10 ms", "100 ms", "1 s", "10 s"])
    axes.minorticks_off()
    axes.set_xlim(0, 1.15 * max(step["rate"] for steps in stairs.values() for step in steps))
    axes.set_xlabel("messages a second, each answered by an assistant and sent")
    return figure


def _label(axes: Axes, words: str, x: float, y: float, colour: str) -> None:
    axes.annotate(words, (x, y), xytext=(9, 0), textcoords="offset points", color=colour, va="center")


def draw_growth(told: Told) -> Figure:
    """Show what more of something does to the cost of a message."""
    rows = [row for row in told["growth"] if row["name"] != USUAL]
    figure = _figure("CPU time of one answered message where there is more of something", 1.2 + 0.38 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        ratio = row["ratio"]
        axes.barh(place, ratio["median"], color=OTHER, height=0.62)
        axes.plot([ratio["lowest"], ratio["highest"]], [place, place], color=INK, linewidth=1.2)
        axes.text(max(ratio["highest"], 1) + 0.02, place, f"{ratio['median']:.2f} ×", va="center")
    axes.axvline(1, color=HUB, linewidth=1.6)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(row["ratio"]["highest"] for row in rows))
    axes.set_xticks([1], [USUAL.replace(", no", ",\nno")])
    axes.tick_params(axis="x", length=0, colors=HUB)
    axes.spines["bottom"].set_visible(False)
    return figure


def draw_soak(told: Told) -> Figure:
    """Show the memory over a quarter of an hour."""
    soak = told["soak"]
    samples = [(at / 60, mb) for at, mb in soak["memory"] if at <= soak["window_s"]]
    grows = soak["trend"]
    figure = _figure(
        f"Memory at {soak['units'] / soak['window_s']:.0f} messages a second:"
        f" {grows['per_hour']:+.1f} MB an hour (95 %: {grows['lowest']:+.1f} to {grows['highest']:+.1f})",
        3.2,
    )
    axes = figure.subplots()
    axes.plot([at for at, _ in samples], [mb for _, mb in samples], color=HUB, linewidth=1.6)
    axes.text(samples[-1][0], samples[-1][1], f"  {samples[-1][1]:.0f} MB", color=HUB, va="center", weight="bold")
    axes.set_ylim(0, 1.3 * max(mb for _, mb in samples))
    axes.set_xlim(0, samples[-1][0] * 1.08)
    axes.set_xlabel("minutes, after three to warm up")
    axes.set_ylabel("MB")
    return figure


def draw_crowd(told: Told) -> Figure:
    """Show the hub's memory while the guide's one customer writes as fast as Locust can."""
    guide = told["locust"]
    figure = _figure(
        f"The guide's load test: the hub's memory while one customer writes\n"
        f"{guide['requests']:,} messages, {guide['requests'] / guide['sending_s']:,.0f} a second,"
        f" in {guide['turns']:,.0f} turns",
        3.4,
    )
    axes = figure.subplots()
    memory = [(at / 60, mb) for at, mb in guide["memory"] if at <= guide["seconds"]]
    axes.plot([at for at, _ in memory], [mb for _, mb in memory], color=HUB, linewidth=1.6)
    axes.text(memory[-1][0], memory[-1][1], f"  {memory[-1][1]:.0f} MB", color=HUB, va="center", weight="bold")
    axes.set_ylim(0, 1.4 * max(mb for _, mb in memory))
    axes.set_xlim(0, memory[-1][0] * 1.08)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MB")
    return figure


#: The picture's name, what it is made of, who draws it, and what it shows.
PLOTS: Final[Mapping[str, tuple[frozenset[str], Callable[[Told], Figure], str]]] = {
    "costs": (
        frozenset({"ack", "answered", "capacity"}),
        draw_costs,
        "CPU time of one webhook acknowledged and of one message answered, beside others",
    ),
    "latency": (frozenset({"capacity"}), draw_latency, "p50 and p99 of acknowledgements over the rate"),
    "growth": (frozenset({"growth"}), draw_growth, "CPU time of one answered message where there is more of something"),
    "soak": (frozenset({"soak"}), draw_soak, "Memory over the minutes of the soak"),
    "load-test": (frozenset({"locust"}), draw_crowd, "Memory over the minutes of the deployment guide's load test"),
}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "folder", type=click.Path(path_type=Path), default=PICTURES, help="Default: docs/pictures.")
def main(*, files: tuple[Path, ...], folder: Path) -> None:
    """Draw what is in these files of the bench; what several have counts from the last."""
    told = read_results(files)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (needed, draw, words) in PLOTS.items():
        if not needed <= told.keys():
            click.echo(f"{name}: not without {', '.join(sorted(needed - told.keys()))}")
            continue
        with mpl.rc_context(_STYLE):
            figure = draw(told)
            for form in ("svg", "png"):
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(folder / f"{name}.{form}", dpi=DPI, metadata=metadata)
        label(folder / f"{name}.svg", words)
        click.echo(f"{name}: {folder / name}.svg and .png")


if __name__ == "__main__":
    main()
