"""The shape of the house: which room may import what, and how large its pieces may grow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "whatsapp_hub"
MODULES: Final = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))

#: The modules of Meta's words that talk to it; all others there are pure.
TALKING: Final = {f"whatsapp_hub/cloud_api/{name}.py" for name in ("client", "media", "account_client")}
#: Bytes and values in, values or errors out.
PURE: Final = (
    *(module for module in MODULES if module.startswith("whatsapp_hub/cloud_api/") and module not in TALKING),
    "whatsapp_hub/demo/message_check.py",
    "whatsapp_hub/demo/playground/script.py",
    "whatsapp_hub/tenants/business.py",
    "whatsapp_hub/tenants/vault.py",
    "whatsapp_hub/conversation/parts.py",
    "whatsapp_hub/conversation/slowdowns.py",
    "whatsapp_hub/inbox/document.py",
    "whatsapp_hub/inbox/late_failures.py",
    "whatsapp_hub/inbox/timeline.py",
)
#: What a pure module has no business with: the network, the database, the loop, the clock, chance, logs.
IMPURE: Final = {"aiohttp", "motor", "pymongo", "asyncio", "logging", "os", "time", "prometheus_client"}
CHANCE: Final = {"random", "secrets", "uuid"}
MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 40


@cache
def parse(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text("utf-8"))


def find_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full dotted name of everything that is imported anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_impure_imports(tree: ast.AST) -> list[str]:
    # An instance of Random that is passed in is a value; the module's own functions are not.
    impure = IMPURE | CHANCE
    return [name for name in find_imports(tree) if name.partition(".")[0] in impure and name != "random.Random"]


def find_hub_imports(module: str) -> set[str]:
    """Return the modules of the hub that a module imports, directly or through others."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in find_imports(parse(waiting.pop())):
            for candidate in (name, name.rpartition(".")[0]):
                path = f"{candidate.replace('.', '/')}.py"
                if path in MODULES and path not in found:
                    found.add(path)
                    waiting.append(path)
    return found


def pure_modules() -> list[str]:
    return [module for module in PURE if module in MODULES]


def find_long_functions(tree: ast.AST) -> list[str]:
    return [
        f"{node.name} has {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_know_nothing_of_the_outside(module: str) -> None:
    reached = {module, *find_hub_imports(module)}
    assert {name: impure for name in reached if (impure := find_impure_imports(parse(name)))} == {}


def test_impure_imports_are_found() -> None:
    source = """
import os.path
from random import Random, choice
def f():
    from asyncio import sleep
"""
    assert find_impure_imports(ast.parse(source)) == ["os.path", "random.choice", "asyncio.sleep"]


def test_motor_is_known_to_one_module_only() -> None:
    knows = [m for m in MODULES if any(name.partition(".")[0] == "motor" for name in find_imports(parse(m)))]
    assert knows == ["whatsapp_hub/database.py"]


def test_server_does_not_need_the_demo() -> None:
    reached = find_hub_imports("whatsapp_hub/app.py")
    assert len(reached) > 20
    assert [module for module in reached if module.startswith("whatsapp_hub/demo/")] == []


def test_nothing_but_the_command_line_needs_the_commands() -> None:
    others = [module for module in MODULES if "/commands/" not in module and module != "whatsapp_hub/cli.py"]
    users = {m for m in others for name in find_imports(parse(m)) if name.startswith("whatsapp_hub.commands")}
    assert users == set()


def test_only_the_settings_look_at_the_environment() -> None:
    knows = [
        module
        for module in MODULES
        if any(
            isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
            for node in ast.walk(parse(module))
        )
    ]
    # database.py sets what Motor reads at its import; what systemd says is in variables, and no setting; the embedded
    # database and the demo's processes are never part of the server.
    allowed = {
        "whatsapp_hub/settings.py",
        "whatsapp_hub/database.py",
        "whatsapp_hub/systemd.py",
        "whatsapp_hub/demo/browser.py",
        "whatsapp_hub/demo/embedded.py",
        "whatsapp_hub/demo/hub_main.py",
        "whatsapp_hub/demo/hub_process.py",
        "whatsapp_hub/demo/sample_assistant.py",
    }
    assert set(knows) <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_small(module: str) -> None:
    lines = (ROOT / module).read_text("utf-8").count("\n")
    assert lines <= MAX_MODULE_LINES
    assert find_long_functions(parse(module)) == []


def test_long_functions_are_found() -> None:
    source = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES
    assert find_long_functions(ast.parse(source)) == ["f has 41 lines"]


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    imported = {name.partition(".")[0] for module in MODULES for name in find_imports(parse(module))}
    known = packages_distributions()
    provided = {
        name: {distribution.lower().replace("_", "-") for distribution in known.get(name, [name])}
        for name in imported - set(sys.stdlib_module_names) - {"whatsapp_hub"}
    }
    undeclared = {name for name, providers in provided.items() if not providers & declared}
    assert undeclared <= {"pydantic_core"}  # pydantic brings the one version that fits
