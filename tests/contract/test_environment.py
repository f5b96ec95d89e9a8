"""The table of environment variables: each one's name, its default, and every place that it is read from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import VARIABLES, Settings, load_settings

FOLDER = Path(__file__).parent
PRIVATE = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
UNSET = None


@dataclass(frozen=True)
class Variable:
    name: str
    default: object
    text: str  #: another value, as an operator writes it
    value: object  #: the same, as the hub knows it


TABLE = [
    Variable("MONGODB_URI", UNSET, "mongodb://db.example:27017/", "mongodb://db.example:27017/"),
    Variable("MONGODB_DB_NAME", UNSET, "whatsapp_production", "whatsapp_production"),
    Variable("ENCRYPTION_SECRET", UNSET, "the secret", "the secret"),
    Variable("ENCRYPTION_SECRETS_OLD", (), "older, oldest", ("older", "oldest")),
    Variable("WHATSAPP_VERIFY_TOKEN", UNSET, "verify me", "verify me"),
    Variable("WHATSAPP_APP_SECRET", (), "new,old", ("new", "old")),
    Variable("ALLOW_UNSIGNED_WEBHOOKS", False, "true", True),
    Variable("WHATSAPP_PHONE_NUMBER_ID", UNSET, "555", "555"),
    Variable("WHATSAPP_TOKEN", UNSET, "token", "token"),
    Variable("BUSINESS_CACHE_TTL", 300, "60", 60),
    Variable("BUSINESS_CACHE_SIZE", 1000, "2000", 2000),
    Variable("WARMUP_CACHE", True, "false", False),
    Variable("MONGODB_MAX_POOL_SIZE", 100, "200", 200),
    Variable("MONGODB_MIN_POOL_SIZE", 10, "5", 5),
    Variable("RATE_LIMIT_WEBHOOK", "100/minute", "5/second", "5/second"),
    Variable("RATE_LIMIT_HEALTH", "100/minute", "5/second", "5/second"),
    Variable("RATE_LIMIT_METRICS", "10/minute", "5/second", "5/second"),
    Variable("RATE_LIMIT_ADMIN", "1/minute", "5/second", "5/second"),
    Variable("RATE_LIMIT_BUSINESS", "80/second", "5/second", "5/second"),
    Variable("RATE_LIMIT_CUSTOMER", "200/hour", "5/second", "5/second"),
    Variable("REPLY_MAX_AGE_S", 21600, "60", 60),
    Variable("REDIS_URL", UNSET, "redis://cache.example:6379/1", "redis://cache.example:6379/1"),
    Variable("TRUSTED_PROXIES", (), "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
    Variable("ADMIN_TOKEN", UNSET, "a-token-of-24-characters", "a-token-of-24-characters"),
    Variable("METRICS_ALLOW", tuple(map(ip_network, PRIVATE)), "192.0.2.7", (ip_network("192.0.2.7"),)),
    Variable("GRAPH_API_BASE_URL", "https://graph.facebook.com", "http://stand-in.example", "http://stand-in.example"),
    Variable("GRAPH_API_VERSION", "v26.0", "v27.0", "v27.0"),
    Variable("GRAPH_MAX_CONNECTIONS", 200, "400", 400),
    Variable("ASSISTANT", UNSET, "none", "none"),
    Variable("ASSISTANTS", {}, "shop=my_shop:Shop", {"shop": "my_shop:Shop"}),
    Variable("ASSISTANT_ALLOW_NETS", (), "10.1.2.0/24", (ip_network("10.1.2.0/24"),)),
    Variable("AI_BASE_URL", "https://api.openai.com/v1", "http://model.example/v1", "http://model.example/v1"),
    Variable("AI_API_KEY", UNSET, "key", "key"),
    Variable("AI_MODEL", UNSET, "model", "model"),
    Variable("AI_INSTRUCTIONS", Settings().ai_instructions, "Be brief.", "Be brief."),
    Variable("AI_TIMEOUT_S", 60, "5", 5),
    Variable("AI_MAX_CONNECTIONS", 1000, "50", 50),
    Variable("HISTORY_TURNS", 20, "5", 5),
    Variable("TYPING_INDICATOR", True, "false", False),
    Variable("INBOX_RETENTION_DAYS", 14, "8", 8),
    Variable("CONVERSATION_RETENTION_DAYS", 90, "30", 30),
    Variable("DEAD_RETENTION_DAYS", 90, "30", 30),
    Variable("DRAIN_TIMEOUT_S", 25, "5", 5),
    Variable("LOG_FORMAT", "json", "text", "text"),
    Variable("LOG_LEVEL", "INFO", "DEBUG", "DEBUG"),
    Variable("LOG_LEVELS", {}, "webhook=DEBUG, hub=ERROR", {"webhook": "DEBUG", "hub": "ERROR"}),
    Variable("LOG_FILE", UNSET, "/var/log/hub.log", Path("/var/log/hub.log")),
    Variable("ALERT_WEBHOOK_URL", UNSET, "https://alerts.example/hub", "https://alerts.example/hub"),
    Variable("MEDIA_MAX_BYTES", 16_777_216, "1000000", 1_000_000),
    Variable("AI_TRANSCRIPTION_MODEL", "whisper-1", "hear-2", "hear-2"),
    Variable("AI_SPEECH_MODEL", "tts-1", "say-2", "say-2"),
    Variable("AI_VOICE", "alloy", "nova", "nova"),
    Variable("HOST", "0.0.0.0", "127.0.0.1", "127.0.0.1"),
    Variable("PORT", 8000, "8080", 8080),
]
#: What makes a value pass that is wrong without it.
COMPANIONS = {
    "WHATSAPP_PHONE_NUMBER_ID": {"WHATSAPP_TOKEN": "token"},
    "WHATSAPP_TOKEN": {"WHATSAPP_PHONE_NUMBER_ID": "555"},
}
ENOUGH = {
    "MONGODB_URI": "mongodb://127.0.0.1:27017/?replicaSet=rs0",
    "MONGODB_DB_NAME": "whatsapp",
    "ENCRYPTION_SECRET": "a secret",
    "WHATSAPP_APP_SECRET": "app secret",
    "ASSISTANT": "echo",
}

each_variable = pytest.mark.parametrize("variable", TABLE, ids=lambda variable: variable.name)


def plain(value: Any) -> Any:
    """Return a setting with its secrets uncovered."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def faults_of(**env: str) -> list[str]:
    """Return what ``serve`` says about an environment."""
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(env=env, env_file=None, serve=True)
    return caught.value.faults


def test_these_are_all_the_variables() -> None:
    assert [variable.name for variable in TABLE] == list(VARIABLES)


@each_variable
def test_default_of_a_variable(variable: Variable) -> None:
    assert plain(getattr(load_settings(env={}, env_file=None), variable.name.lower())) == variable.default


def in_the_environment(name: str, text: str, _: Path) -> dict[str, str]:
    return {name: text}


def in_a_file_that_is_named(name: str, text: str, folder: Path) -> dict[str, str]:
    path = folder / "secret"
    path.write_text(f"{text}\n")
    return {f"{name}_FILE": str(path)}


def in_the_credentials(name: str, text: str, folder: Path) -> dict[str, str]:
    (folder / name.lower()).write_text(f"{text}\n")
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def in_the_env_file(name: str, text: str, folder: Path) -> dict[str, str]:
    (folder / ".env").write_text(f"{name}={text}\n")
    return {}


@pytest.mark.parametrize(
    "put",
    [in_the_environment, in_a_file_that_is_named, in_the_credentials, in_the_env_file],
    ids=lambda put: put.__name__,
)
@each_variable
def test_place_that_a_variable_is_read_from(
    variable: Variable, put: Callable[[str, str, Path], dict[str, str]], tmp_path: Path
) -> None:
    env = put(variable.name, variable.text, tmp_path) | COMPANIONS.get(variable.name, {})
    settings = load_settings(env=env, env_file=tmp_path / ".env")
    assert plain(getattr(settings, variable.name.lower())) == variable.value


@pytest.mark.parametrize("missing", [*ENOUGH])
def test_what_serve_cannot_do_without_is_named(missing: str) -> None:
    env = {name: text for name, text in ENOUGH.items() if name != missing}
    (fault,) = faults_of(**env)
    assert fault.startswith(f"{missing}: missing")


def test_every_fault_is_listed_at_once() -> None:
    faults = faults_of(PORT="many", LOG_LEVEL="loud", TRUSTED_PROXIES="10.0.0.1/8")
    assert {fault.partition(":")[0] for fault in faults} == {"PORT", "LOG_LEVEL", "TRUSTED_PROXIES", *ENOUGH}


def test_no_app_secret_is_needed_where_unsigned_webhooks_are_asked_for() -> None:
    env = {**ENOUGH, "WHATSAPP_APP_SECRET": "", "ALLOW_UNSIGNED_WEBHOOKS": "true"}
    assert load_settings(env=env, env_file=None, serve=True).allow_unsigned_webhooks


def test_unset_assistant_names_the_choices() -> None:
    (fault,) = faults_of(**{**ENOUGH, "ASSISTANT": "", "ASSISTANTS": "shop=my_shop:Shop"})
    assert all(choice in fault for choice in ("echo", "openai", "none", "shop"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("INBOX_RETENTION_DAYS", "7", "at least 8"),
        ("ADMIN_TOKEN", "only-23-characters-long", "under 24 characters"),
        ("ASSISTANT", "parrot", "not known"),
        ("ASSISTANT", "shop", "not known"),
        ("ALERT_WEBHOOK_URL", "alerts.example/hub", "not a URL"),
    ],
)
def test_value_that_is_refused_at_the_start(name: str, text: str, words: str) -> None:
    (fault,) = faults_of(**{**ENOUGH, name: text})
    assert fault.startswith(f"{name}: ")
    assert words in fault


@pytest.mark.parametrize("name", [variable.name for variable in TABLE])
def test_what_a_variable_does_is_tested(name: str) -> None:
    """Somewhere in this folder, over HTTP or with the real process."""
    others = [path.read_text() for path in FOLDER.glob("test_*.py") if path != Path(__file__)]
    assert any(re.search(rf"\b{name}\b", text) for text in others)
