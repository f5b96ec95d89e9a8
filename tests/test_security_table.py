"""The threat model tells the truth: its tests are there, its limits are the code's, secrets are compared safely."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from whatsapp_hub.settings import VARIABLES, Settings

ROOT: Final = Path(__file__).parents[1]
MODEL: Final = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
HELD_BY: Final = MODEL.partition("## What holds it")[2].partition("## Supply chain")[0]
LIMITS: Final = MODEL.partition("## Limits and defaults")[2].partition("\n## ")[0]


def rows_of(section: str) -> list[list[str]]:
    """Return the cells of a section's tables, without their heads."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, below in zip(cells, [*cells[1:], [""]], strict=True) if not {row[0], below[0]} & {"---"}]


@cache
def find_tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def is_there(reference: str) -> bool:
    """Whether a test, and the case of it that is named, exists."""
    path, _, name = reference.partition("::")
    function, _, case = name.partition("[")
    return (
        (ROOT / path).is_file()
        and function in find_tests(path)
        and (not case or f'"{case.rstrip("]")}"' in (ROOT / path).read_text("utf-8"))
    )


def written(name: str, value: object) -> str:
    """Write a default as the table does."""
    if name.endswith("_BYTES") and isinstance(value, int):
        return f"{value >> 20} MiB" if value >= 1 << 20 else f"{value >> 10} KiB"
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("row", rows_of(HELD_BY), ids=lambda row: row[0])
def test_every_control_names_tests_that_exist(row: list[str]) -> None:
    references = re.findall(r"`([^`]+)`", row[1])
    assert references
    assert [reference for reference in references if not is_there(reference)] == []


def test_missing_test_is_noticed() -> None:
    here = "tests/test_security_table.py"
    assert is_there(f"{here}::test_missing_test_is_noticed")
    assert not is_there(f"{here}::test_that_is_not_there")
    assert not is_there("tests/nowhere.py::test_missing_test_is_noticed")
    bad_input = "tests/integration/test_bad_input.py::test_bad_input_gets_its_status"
    assert is_there(f"{bad_input}[a bomb]")
    assert not is_there(f"{bad_input}[a bomb of another kind]")


@pytest.mark.parametrize("row", rows_of(LIMITS), ids=lambda row: row[0])
def test_every_limit_is_what_the_code_says(row: list[str]) -> None:
    name = row[2].strip("`")
    if name in VARIABLES:
        value = Settings.model_fields[name.lower()].default
    else:
        module, _, constant = name.rpartition(".")
        value = getattr(importlib.import_module(module), constant)
    assert row[1] == written(name, value)


def test_the_tables_are_read() -> None:
    assert len(rows_of(HELD_BY)) > 30
    assert len(rows_of(LIMITS)) > 25


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("whatsapp_hub/http/admin.py", "is_operator"),
        ("whatsapp_hub/http/webhook.py", "knows_token"),
        ("whatsapp_hub/cloud_api/signature.py", "verify"),
        ("whatsapp_hub/tenants/api_keys.py", "find"),
        ("whatsapp_hub/http/console/session.py", "_is_same"),
    ],
)
def test_secrets_are_compared_in_constant_time(module: str, function: str) -> None:
    """Time cannot be measured well enough here; what compares can be looked at."""
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [node.name for node in found if "hmac.compare_digest(" in ast.unparse(node)] == [function]
