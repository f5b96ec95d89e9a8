"""Where the text of a variable is found: the environment, secret files, systemd's credentials, a ``.env`` file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values


class _Unreadable(Exception):
    """A file cannot be read; the message says which and why."""


def find_values(
    names: Iterable[str], env: Mapping[str, str], env_file: Path | None, *, may_be_empty: frozenset[str] = frozenset()
) -> tuple[dict[str, str], dict[str, str]]:
    """Look every variable up; the first place that has it counts.

    These are the places: ``NAME`` in the environment, the file that ``NAME_FILE`` names there,
    ``$CREDENTIALS_DIRECTORY/<name>``, then ``NAME`` and ``NAME_FILE`` in the ``.env`` file. A blank value counts as not
    set, but for the names in ``may_be_empty``.

    Returns:
        the values, and for what could not be read its fault, both by name of the variable.

    """
    values: dict[str, str] = {}
    faults: dict[str, str] = {}
    dotenv = _read_dotenv(env_file, faults)
    for name in names:
        try:
            value = _find_value(name, env, dotenv, keep_empty=name in may_be_empty)
        except _Unreadable as exc:
            faults[name] = str(exc)
            continue
        if value is not None:
            values[name] = value
    return values, faults


def _find_value(name: str, env: Mapping[str, str], dotenv: Mapping[str, str], *, keep_empty: bool) -> str | None:
    for place in (env, dotenv):
        value = place.get(name)
        if value is not None and (keep_empty or value.strip()):
            return value if value.strip() else ""
        path = place.get(f"{name}_FILE")
        if path:
            return _read_file(Path(path))
        if place is env and (credential := _read_credential(name, env)) is not None:
            return credential
    return None


def _read_credential(name: str, env: Mapping[str, str]) -> str | None:
    folder = env.get("CREDENTIALS_DIRECTORY")
    for path in (Path(folder, name.lower()), Path(folder, name)) if folder else ():
        if path.is_file():
            return _read_file(path)
    return None


def _read_file(path: Path) -> str | None:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise _Unreadable(_explain(path, exc)) from exc
    return text if text.strip() else None


def _read_dotenv(path: Path | None, faults: dict[str, str]) -> Mapping[str, str]:
    try:
        found = dotenv_values(path, interpolate=False) if path else {}  # a secret may hold a "${"
    except (OSError, UnicodeDecodeError) as exc:
        faults[str(path)] = _explain(path, exc)
        return {}
    return {name: value for name, value in found.items() if value is not None}


def _explain(path: Path | None, exc: OSError | UnicodeDecodeError) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"the file {path} is not UTF-8 text"
    return f"the file {path} cannot be read: {exc.strerror}; mend its path or its permissions"
