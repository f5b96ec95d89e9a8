"""How commands print."""

from __future__ import annotations

import pytest

from whatsapp_hub.commands.printing import plain, print_fields, print_table


def test_nothing_printed_steers_the_terminal() -> None:
    assert plain("a\x1b[2Jb\nc\r\x07") == "a?[2Jb?c??"
    assert plain("Bäckerei 🥐") == "Bäckerei 🥐"


def test_table_stays_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "ids"), [("[bold]x[/bold]", "1" * 300), ("b\x1b", "2")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == f"[bold]x[/bold]  {'1' * 300}"
    assert lines[2].startswith("b? ")


def test_fields_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"name": "x", "phone_ids": ["1", "2"], "on": True, "none": None, "inner": {"a": False}, "empty": []})
    assert capsys.readouterr().out.splitlines() == [
        "name       x",
        "phone ids  1, 2",
        "on         yes",
        "none       -",
        "inner",
        "  a  no",
        "empty      -",
    ]
