"""Secrets on the command line: from a hidden prompt, from stdin or from a file, never from an argument."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOption:
    """One secret that a command takes."""

    name: str  #: of its options, as in ``--token-file``
    words: str  #: what the prompt calls it
    needed: bool = False  #: asked for where no option names a source
    in_header: bool = False  #: it goes into an HTTP header

    @property
    def _key(self) -> str:
        return self.name.replace("-", "_")

    def add_to(self, command: F) -> F:
        """Add this secret's options to a command."""
        path = click.Path(path_type=Path)
        stdin_help = f"Read its {self.words} from stdin: one line, several secrets in the order of this help."
        command = click.option(f"--{self.name}-stdin", is_flag=True, help=stdin_help)(command)
        command = click.option(f"--{self.name}-file", type=path, help=f"Read its {self.words} from this file.")(command)
        if not self.needed:
            command = click.option(f"--ask-{self.name}", is_flag=True, help=f"Ask for its {self.words}.")(command)
        return command

    def read(self, options: Mapping[str, Any]) -> str | None:
        """Return the secret from where the options say; None if it was not given.

        Raises:
            ValueError: it is missing or cannot be used; says why, without it.

        """
        path: Path | None = options[f"{self._key}_file"]
        from_stdin: bool = options[f"{self._key}_stdin"]
        asked: bool = options.get(f"ask_{self._key}", False)
        if (path is not None) + from_stdin + asked > 1:
            raise ValueError(f"its {self.words} can come from one place only")
        if path is not None:
            return self._check(read_text_file(path))
        if from_stdin:
            return self._check(sys.stdin.readline())
        if asked or self.needed:
            return self._check(self._ask())
        return None

    def _ask(self) -> str:
        """Ask for it hidden; without a terminal to ask at, take what is piped in."""
        if not is_interactive():
            return sys.stdin.readline()
        answer: str = click.prompt(self.words.capitalize(), hide_input=True, err=True)
        return answer

    def _check(self, text: str) -> str:
        secret = text.strip()
        if not secret:
            sources = f"--{self.name}-stdin or --{self.name}-file"
            raise ValueError(f"its {self.words} is missing or empty: type it at the prompt, or use {sources}")
        if not secret.isprintable() or (self.in_header and not (secret.isascii() and " " not in secret)):
            raise ValueError(f"its {self.words} holds spaces or characters that none has: copy it again")
        return secret


def read_text_file(path: Path) -> str:
    """Read a text that an option names. Raises ``ValueError``."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ValueError(f"{path} cannot be read: {reason}") from None


def is_interactive() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()
