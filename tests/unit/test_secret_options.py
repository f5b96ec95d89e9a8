"""Secrets come from a prompt, stdin or a file; never from an argument, and never back in an error."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from whatsapp_hub.commands.secret_options import SecretOption

TOKEN = SecretOption(name="token", words="access token", needed=True, in_header=True)
APP_SECRET = SecretOption(name="app-secret", words="own app secret")


def read(secret: SecretOption, stdin: str = "", **options: Any) -> str | None:
    given: dict[str, Any] = {"token_file": None, "token_stdin": False, "app_secret_file": None}
    given |= {"app_secret_stdin": False, "ask_app_secret": False} | options
    before = sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        return secret.read(given)
    finally:
        sys.stdin = before


def test_file_is_read_without_the_line_break_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("EAAsecret\r\n")
    assert read(TOKEN, token_file=path) == "EAAsecret"


def test_stdin_gives_one_line() -> None:
    assert read(TOKEN, "EAAsecret\nmore\n", token_stdin=True) == "EAAsecret"


def test_needed_secret_is_taken_from_a_pipe_where_nobody_can_be_asked() -> None:
    assert read(TOKEN, "EAAsecret\n") == "EAAsecret"


def test_other_secrets_are_not_read_unless_asked_for() -> None:
    assert read(APP_SECRET, "not for us\n") is None
    assert read(APP_SECRET, "with spaces in it\n", ask_app_secret=True) == "with spaces in it"


@pytest.mark.parametrize("text", ["EAA secret", "EAA\nsecret", "EAAsécret", "EAA\x00secret"])
def test_token_that_would_break_a_header_is_refused_and_not_quoted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds spaces or characters") as caught:
        read(TOKEN, token_file=path)
    assert "EAA" not in str(caught.value)


def test_missing_secret_names_its_options() -> None:
    with pytest.raises(ValueError, match="--token-stdin or --token-file"):
        read(TOKEN, "")
    with pytest.raises(ValueError, match="--app-secret-stdin or --app-secret-file"):
        read(APP_SECRET, "\n", app_secret_stdin=True)


def test_secret_comes_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one place only"):
        read(TOKEN, "x", token_stdin=True, token_file=tmp_path)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing-here cannot be read: No such file"):
        read(TOKEN, token_file=tmp_path / "nothing-here")
    (tmp_path / "picture").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        read(TOKEN, token_file=tmp_path / "picture")


def test_no_option_takes_a_secret_itself() -> None:
    @click.command()
    @TOKEN.add_to
    @APP_SECRET.add_to
    def command(**_: object) -> None:
        """Do nothing."""

    result = CliRunner().invoke(command, ["--help"])
    assert "--token-file PATH" in result.stdout
    assert "--ask-app-secret " in result.stdout
    assert CliRunner().invoke(command, ["--token", "EAAsecret"]).exit_code == 2
