from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
import pytest
from click.testing import CliRunner

from bench.growth import USUAL
from bench.pictures import settle_flame_graph
from bench.plots import PLOTS, main, read_results

ACK_MS = {"p50": 3.0, "p90": 5.0, "p99": 9.0, "max": 12.0}


def make_results() -> dict[str, object]:
    runs = [{"cpu_us": 100.0}, {"cpu_us": 120.0}]
    ratio = {"median": 1.1, "lowest": 1.0, "highest": 1.2}
    step = {"rate": 300.0, "ack_ms": ACK_MS}
    memory = [[float(at), 100.0 + at % 3] for at in range(60)]
    return {
        "scenarios": [
            {"name": name, "ratio": ratio, "hub": runs, "floor": runs, "peers": {"pywa": runs, "the guide's": runs}}
            for name in ("ack", "answered")
        ],
        "studies": {
            "capacity": {
                "stairs": {"1": [step, {**step, "rate": 400.0}], "2": [step]},
                "peer": [{"per_s": 90.0, "cpu_us": 130.0, "ack_ms": ACK_MS}],
            },
            "growth": [{"name": name, "ratio": ratio} for name in (USUAL, "10 businesses")],
            "soak": {
                "memory": memory,
                "window_s": 50.0,
                "units": 900,
                "trend": {"per_hour": 0.1, "lowest": -1.0, "highest": 1.0},
            },
            "locust": {"memory": memory, "seconds": 50.0, "requests": 9_000, "sending_s": 50.0, "turns": 200.0},
        },
    }


def write(file: Path, results: Mapping[str, object]) -> Path:
    file.write_bytes(orjson.dumps(results))
    return file


def test_every_picture_is_drawn_twice_and_as_before(tmp_path: Path) -> None:
    results = write(tmp_path / "all.json", make_results())
    for folder in ("one", "two"):
        outcome = CliRunner().invoke(main, [str(results), "--to", str(tmp_path / folder)], catch_exceptions=False)
        assert outcome.exit_code == 0
    names = {file.name for file in (tmp_path / "one").iterdir()}
    assert names == {f"{name}.{form}" for name in PLOTS for form in ("svg", "png")}
    for name in PLOTS:
        first, second = ((tmp_path / folder / f"{name}.svg").read_bytes() for folder in ("one", "two"))
        assert first == second


def test_costs_are_written_beside_their_bars(tmp_path: Path) -> None:
    results = write(tmp_path / "all.json", make_results())
    CliRunner().invoke(main, [str(results), "--to", str(tmp_path)], catch_exceptions=False)
    assert "110 µs   1.1 ×" in (tmp_path / "costs.svg").read_text()


def test_what_was_not_measured_is_told_and_not_drawn(tmp_path: Path) -> None:
    results = write(tmp_path / "some.json", {"scenarios": [], "studies": {}})
    outcome = CliRunner().invoke(main, [str(results), "--to", str(tmp_path)], catch_exceptions=False)
    assert "costs: not without ack, answered, capacity" in outcome.output
    assert list(tmp_path.glob("*.svg")) == []


def test_what_was_measured_again_counts_from_the_later_file(tmp_path: Path) -> None:
    earlier, later = make_results(), {"scenarios": [{"name": "ack", "hub": []}], "studies": {}}
    told = read_results([write(tmp_path / "1.json", earlier), write(tmp_path / "2.json", later)])
    assert told["ack"]["hub"] == pytest.approx([])
    assert len(told["answered"]["hub"]) == 2


FLAME = """<svg xmlns="http://www.w3.org/2000/svg" onload="init(evt)"><script>other people's</script>
<text id="title">py-spy record</text><svg id="frames"><g><title>answer (hub.py:1) (9 samples, 90%)</title>
<rect width="90%"/><text></text></g>
<g><title>a_name_too_long (hub.py:2) (1 samples, 5%)</title><rect width="5%"/><text></text></g>
<g><title>tiny (hub.py:3) (1 samples, 1%)</title><rect width="1%"/><text></text></g></svg></svg>"""


def test_flame_graph_names_its_frames_without_a_script(tmp_path: Path) -> None:
    (tmp_path / "flame.svg").write_text(FLAME)
    settle_flame_graph(tmp_path / "flame.svg", 'where "it" goes')
    text = (tmp_path / "flame.svg").read_text()
    assert 'aria-label="where &quot;it&quot; goes"' in text
    assert not any(gone in text for gone in ("<script", "onload", "py-spy record"))
    root = ET.fromstring(text)
    names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert names == ["answer (hub.py:1)", "a_nam..", None]
