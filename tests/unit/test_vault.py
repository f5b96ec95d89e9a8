from __future__ import annotations

import base64
import hashlib
import traceback

import pytest
from cryptography.fernet import Fernet

from whatsapp_hub.errors import VaultError
from whatsapp_hub.tenants.vault import Vault

SECRET = "your-32-char-secret-key-here"
TOKEN = "EAAG" + "x" * 500


def encrypt_as_the_dashboard(plain: bytes, secret: str = SECRET) -> str:
    key = base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest())
    return Fernet(key).encrypt(plain).hex()


def test_decrypts_what_the_dashboard_wrote() -> None:
    assert Vault(SECRET).decrypt(encrypt_as_the_dashboard(TOKEN.encode())) == TOKEN


def test_decrypts_a_value_written_down_once() -> None:
    """A fixed vector, made with hashlib and cryptography alone, so that both directions cannot drift together."""
    stored = (
        "674141414141426c555f454141414543417751464267634943516f4c4441304f44395575616642464a3030746e765a64"
        "4b4b6e78454b675066686b2d6243475f61554a4f4f4a7077537a6b4c59503462356641314e4f34526a773342324a6c3046413d3d"
    )

    assert Vault("a secret of 32 characters, or so").decrypt(stored) == "EAAGexample"


def test_stored_value_is_the_hex_of_the_ascii_token() -> None:
    stored = Vault(SECRET).encrypt(TOKEN)

    assert bytes.fromhex(stored).decode("ascii").startswith("gAAAA")


def test_what_it_encrypts_the_dashboard_can_read() -> None:
    key = base64.urlsafe_b64encode(hashlib.sha256(SECRET.encode()).digest())

    assert Fernet(key).decrypt(bytes.fromhex(Vault(SECRET).encrypt("Zoë"))).decode() == "Zoë"


def test_old_secrets_decrypt_and_the_new_one_encrypts() -> None:
    vault = Vault("new", ["older", "old"])

    assert vault.decrypt(encrypt_as_the_dashboard(b"a", "older")) == "a"
    assert vault.decrypt(encrypt_as_the_dashboard(b"b", "old")) == "b"
    assert Vault("new").decrypt(vault.encrypt("c")) == "c"


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "EAAGplain-text-token",
        "abcdef",
        "abc",
        "ü",
        "zz" * 60,
        b"gAAAAABh".hex(),
        pytest.param(encrypt_as_the_dashboard(b"token", "another secret"), id="another secret"),
        pytest.param(encrypt_as_the_dashboard(b"token")[:-2], id="cut off"),
        pytest.param(encrypt_as_the_dashboard(b"token").replace("6", "7"), id="changed"),
        pytest.param(bytes.fromhex(encrypt_as_the_dashboard(b"token")).decode(), id="not in hex"),
    ],
)
def test_what_does_not_decrypt_is_refused_and_never_taken_for_plain_text(stored: str) -> None:
    with pytest.raises(VaultError):
        Vault(SECRET).decrypt(stored)


def test_error_carries_neither_the_stored_nor_the_plain_value() -> None:
    """Bytes that are no UTF-8 would hang on a decoding error."""
    stored = encrypt_as_the_dashboard(b"\xff secret bytes")

    with pytest.raises(VaultError) as caught:
        Vault(SECRET).decrypt(stored)

    assert caught.value.__context__ is None
    text = "".join(traceback.format_exception(caught.value))
    assert stored not in text
    assert "secret bytes" not in text


def test_second_decryption_comes_from_memory() -> None:
    vault = Vault(SECRET)
    stored = vault.encrypt(TOKEN)

    assert vault.decrypt(stored) is vault.decrypt(stored)


def test_failures_are_tried_again() -> None:
    vault = Vault(SECRET)
    stored = encrypt_as_the_dashboard(b"token", "another secret")

    for _ in range(3):
        with pytest.raises(VaultError):
            vault.decrypt(stored)


def test_repr_shows_no_secret() -> None:
    vault = Vault(SECRET)
    vault.decrypt(vault.encrypt(TOKEN))

    assert SECRET not in repr(vault)
    assert TOKEN not in repr(vault.__dict__)
