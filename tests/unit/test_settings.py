"""The settings: the contract's defaults, where values come from, and what is told about wrong ones."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings import VARIABLES, Settings, Timing, load_settings

ROOT = Path(__file__).parents[2]
ENOUGH = {
    "MONGODB_URI": "mongodb://127.0.0.1:27017/?replicaSet=rs0",
    "MONGODB_DB_NAME": "whatsapp",
    "ENCRYPTION_SECRET": "a secret",
    "WHATSAPP_APP_SECRET": "one, two",
    "ASSISTANT": "echo",
}


def load(**env: str) -> Settings:
    return load_settings(env=env, env_file=None)


def load_for_serve(**env: str) -> Settings:
    return load_settings(env=env, env_file=None, serve=True)


def faults_of(load: Callable[..., Settings], **env: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        load(**env)
    return caught.value.faults


def fault_of(**env: str) -> str:
    (fault,) = faults_of(load, **env)
    return fault


def read_env_example() -> tuple[set[str], dict[str, str]]:
    """Return the variables that are there, and the values of those that are not switched on, by name."""
    names: set[str] = set()
    offered: dict[str, str] = {}
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, equals, value = line.removeprefix("#").partition("=")
        if equals and name.isupper():
            names.add(name)
            offered |= {name: value} if line.startswith("#") else {}
    return names, offered


# --- Defaults -------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    values = {
        name: getattr(settings, name) for name in Settings.model_fields if name not in {"timing", "ai_instructions"}
    }
    private = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    unset = [name for name, value in values.items() if value is None]
    assert unset == [
        "mongodb_uri",
        "mongodb_db_name",
        "encryption_secret",
        "whatsapp_verify_token",
        "whatsapp_phone_number_id",
        "whatsapp_token",
        "redis_url",
        "admin_token",
        "assistant",
        "ai_api_key",
        "ai_model",
        "log_file",
        "alert_webhook_url",
    ]
    assert {name: value for name, value in values.items() if value is not None} == {
        "encryption_secrets_old": (),
        "whatsapp_app_secret": (),
        "allow_unsigned_webhooks": False,
        "business_cache_ttl": 300,
        "business_cache_size": 1000,
        "warmup_cache": True,
        "mongodb_max_pool_size": 100,
        "mongodb_min_pool_size": 10,
        "rate_limit_webhook": "100/minute",
        "rate_limit_health": "100/minute",
        "rate_limit_metrics": "10/minute",
        "rate_limit_admin": "1/minute",
        "rate_limit_business": "80/second",
        "rate_limit_customer": "200/hour",
        "reply_max_age_s": 21600,
        "trusted_proxies": (),
        "metrics_allow": tuple(map(ip_network, private)),
        "graph_api_base_url": "https://graph.facebook.com",
        "graph_api_version": "v26.0",
        "graph_max_connections": 200,
        "assistants": {},
        "assistant_allow_nets": (),
        "ai_base_url": "https://api.openai.com/v1",
        "ai_timeout_s": 60,
        "ai_max_connections": 1000,
        "history_turns": 20,
        "typing_indicator": True,
        "inbox_retention_days": 14,
        "conversation_retention_days": 90,
        "dead_retention_days": 90,
        "drain_timeout_s": 25,
        "log_format": "json",
        "log_level": "INFO",
        "log_levels": {},
        "media_max_bytes": 16777216,
        "ai_transcription_model": "whisper-1",
        "ai_speech_model": "tts-1",
        "ai_voice": "alloy",
        "host": "0.0.0.0",
        "port": 8000,
    }
    assert settings.ai_instructions


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().port = 1


def test_env_example_has_every_variable_and_its_default() -> None:
    names, offered = read_env_example()
    defaults = load()
    assert names == set(VARIABLES)
    # What has no default is offered as an example; it has to be a value that is taken.
    taken = load(**{name: value for name, value in offered.items() if name != "ASSISTANTS" or value})
    without_default = {"ASSISTANTS", "AI_INSTRUCTIONS", "LOG_LEVELS"}
    for name in offered.keys() - without_default:
        default = getattr(defaults, name.lower())
        if default not in (None, ()):
            assert getattr(taken, name.lower()) == default, name


# --- Where values come from -----------------------------------------------------------------------------------------


def test_empty_variables_count_as_unset() -> None:
    settings = load(PORT="", ADMIN_TOKEN="  ", METRICS_ALLOW="", MONGODB_URI="", TIMING__LEASE_S="")
    assert settings == load()


def test_empty_customer_limit_switches_it_off() -> None:
    assert load(RATE_LIMIT_CUSTOMER="").rate_limit_customer == ""


def test_places_are_asked_in_order(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "ai_model").write_text("from the credentials\n")
    (credentials / "AI_API_KEY").write_text("upper case\n")
    (tmp_path / "model").write_text("from a named file\r\n")
    dotenv = tmp_path / ".env"
    dotenv.write_text("AI_MODEL=from .env\nHOST=::1\nAI_INSTRUCTIONS='costs ${5}'\nUNKNOWN=1\n")

    def model(**env: str) -> str | None:
        return load_settings(env=env, env_file=dotenv).ai_model

    folder = {"CREDENTIALS_DIRECTORY": str(credentials)}
    file = {"AI_MODEL_FILE": str(tmp_path / "model")}
    assert model() == "from .env"
    assert model(**folder) == "from the credentials"
    assert model(**folder, **file) == "from a named file"
    assert model(**folder, **file, AI_MODEL="from the environment") == "from the environment"
    assert model(**folder, **file, AI_MODEL="") == "from a named file"
    settings = load_settings(env=folder, env_file=dotenv)
    assert settings.ai_api_key is not None
    assert settings.ai_api_key.get_secret_value() == "upper case"
    assert (settings.host, settings.ai_instructions) == ("::1", "costs ${5}")


def test_dotenv_may_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("äöü\n")
    (tmp_path / ".env").write_text(f"ENCRYPTION_SECRET_FILE={tmp_path}/secret\n")
    settings = load_settings(env={}, env_file=tmp_path / ".env")
    assert settings.encryption_secret is not None
    assert settings.encryption_secret.get_secret_value() == "äöü"


def test_overrides_win_and_none_leaves_the_environment() -> None:
    settings = load_settings(env={"PORT": "1", "HOST": "::1"}, env_file=None, overrides={"port": 2, "host": None})
    assert (settings.port, settings.host) == (2, "::1")


def test_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    faults = faults_of(load, AI_MODEL_FILE=f"{tmp_path}/nowhere", AI_API_KEY_FILE=f"{tmp_path}/binary", PORT="x")
    assert faults == [
        f"AI_API_KEY: the file {tmp_path}/binary is not UTF-8 text",
        (
            f"AI_MODEL: the file {tmp_path}/nowhere cannot be read: No such file or directory;"
            " mend its path or its permissions"
        ),
        "PORT: 'x' is not a whole number; write digits only",
    ]


def test_broken_dotenv_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(env={}, env_file=tmp_path / ".env")
    assert caught.value.faults == [f"{tmp_path}/.env: the file {tmp_path}/.env is not UTF-8 text"]


def test_no_variable_is_another_ones_file() -> None:
    assert not {f"{name}_FILE" for name in VARIABLES} & set(VARIABLES)


def test_isolated_looks_at_nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "2")
    assert Settings.isolated().port == 8000
    assert load_settings().port == 2
    monkeypatch.delenv("PORT")
    assert load_settings().port == 1


def test_isolated_refuses_unknown_names() -> None:
    with pytest.raises(SettingsInvalid, match=r"^PROT: there is no such setting; .env.example has them all$"):
        Settings.isolated(prot=1)


# --- Values ---------------------------------------------------------------------------------------------------------


def test_lists_become_values() -> None:
    settings = load(
        WHATSAPP_APP_SECRET=" one , two,",
        TRUSTED_PROXIES="10.0.0.0/8, fd00::/8, 192.0.2.7",
        ASSISTANTS="a=x.y:make, b=z:Z",
        LOG_LEVELS="business_service=debug,webhook=INFO",
    )
    assert [secret.get_secret_value() for secret in settings.whatsapp_app_secret] == ["one", "two"]
    assert settings.trusted_proxies == (
        IPv4Network("10.0.0.0/8"),
        IPv6Network("fd00::/8"),
        IPv4Network("192.0.2.7/32"),
    )
    assert settings.assistants == {"a": "x.y:make", "b": "z:Z"}
    assert settings.log_levels == {"business_service": "DEBUG", "webhook": "INFO"}


def test_timing_can_be_shrunk() -> None:
    settings = load(TIMING__STATUS_WAIT_S="0.5", TIMING__MAX_TURNS="3")
    assert settings.timing == Timing(status_wait_s=0.5, max_turns=3)
    assert Settings.isolated(timing={"round_s": 0.1}).timing.round_s == 0.1


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://mongo:27017/whatsapp",
        "mongodb://user:p%40ss@a:1,b:2/db?replicaSet=rs0&authSource=admin&unknownOption=1",
        "mongodb+srv://user:pass@cluster0.example.net/?retryWrites=true",  # no look-up at start
        "mongodb://[::1]:27017",
    ],
)
def test_mongodb_uris_that_the_driver_understands_are_taken(uri: str) -> None:
    settings = load(MONGODB_URI=uri)
    assert settings.mongodb_uri is not None
    assert settings.mongodb_uri.get_secret_value() == uri


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "80a", "'80a' is not a whole number; write digits only"),
        ("PORT", "65536", "'65536' is too large; at most 65535"),
        ("AI_TIMEOUT_S", "nan", "'nan' is not a number; write one like 2.5"),
        ("AI_TIMEOUT_S", "soon", "'soon' is not a number; write one like 2.5"),
        ("AI_TIMEOUT_S", "0", "'0' is too small; it has to be above 0"),
        ("WARMUP_CACHE", "maybe", "'maybe' is neither true nor false; write one of the two"),
        ("INBOX_RETENTION_DAYS", "7", "'7' is too small; at least 8"),
        ("ADMIN_TOKEN", "x" * 23, "under 24 characters; make one with: openssl rand -hex 24"),
        ("RATE_LIMIT_ADMIN", "often", "'often' is not a rate; write one like 100/minute"),
        ("RATE_LIMIT_ADMIN", "1/minute;2/hour", "'1/minute;2/hour' is not a rate; write one like 100/minute"),
        ("RATE_LIMIT_ADMIN", "0/minute", "'0/minute' would let nothing through; write at least 1/minute"),
        ("RATE_LIMIT_CUSTOMER", "x", "'x' is not a rate; write one like 100/minute"),
        ("TRUSTED_PROXIES", "everyone", "'everyone' is not a network; write one like 10.0.0.0/8 or 192.0.2.7"),
        (
            "METRICS_ALLOW",
            "10.1.2.3/8",
            "'10.1.2.3/8' is an address with a mask; write 10.0.0.0/8 for the whole network",
        ),
        ("GRAPH_API_VERSION", "26", "'26' is not a version of the Graph API; write one like v26.0"),
        ("GRAPH_API_BASE_URL", "graph", "not a URL that can be used here; write one like https://host.example/path"),
        ("AI_BASE_URL", "http://a b/", "not a URL that can be used here; write one like https://host.example/path"),
        ("REDIS_URL", "http://host", "not a URL that can be used here; write one like redis://host:6379/0"),
        ("REDIS_URL", "redis://h:x", "not a URL that can be used here; write one like redis://host:6379/0"),
        ("LOG_FORMAT", "xml", "'xml' is not known; write 'json' or 'text'"),
        ("LOG_LEVEL", "LOUD", "'LOUD' is not a level; write DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("LOG_LEVELS", "webhook=x", "'x' is not a level; write DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("LOG_LEVELS", "webhook", "'webhook' is not of the form name=value"),
        ("ASSISTANTS", "a=x:y,a=x:z", "'a' is there twice"),
        ("ASSISTANTS", "echo=x:y", "'echo' is one of the hub's own assistants; choose another name"),
        ("ASSISTANTS", "a=x.y", "'x.y' is not of the form package.module:factory"),
        ("ASSISTANT", "ecko", "'ecko' is not known; choose one of echo, openai, http, none"),
        ("MONGODB_DB_NAME", "a.b", "'a.b' cannot name a database: at most 63 bytes, without spaces and ./\\\"$"),
        ("TIMING__LEASE_S", "1", "has to lie between TIMING__HEARTBEAT_S and TIMING__LEASE_S"),
        ("TIMING__MAX_TURNS", "x", "'x' is not a whole number; write digits only"),
    ],
)
def test_wrong_value_is_named_with_what_to_write(name: str, value: str, words: str) -> None:
    variable = "TIMING__SELF_FENCE_S" if name == "TIMING__LEASE_S" else name
    assert fault_of(**{name: value}) == f"{variable}: {words}"


@pytest.mark.parametrize(
    "uri", ["localhost:27017", "mongodb://", "mongodb://u:p@ss@h/", "mongodb://h:x/", "mongodb+srv:///"]
)
def test_uri_that_the_driver_does_not_understand_is_a_fault(uri: str) -> None:
    fault = fault_of(MONGODB_URI=uri)
    assert fault.startswith("MONGODB_URI: not a URI that the driver understands; write one like mongodb://")


def test_openai_needs_a_model() -> None:
    assert fault_of(ASSISTANT="openai").startswith("AI_MODEL: needed with ASSISTANT=openai")
    assert load(ASSISTANT="openai", AI_MODEL="m").ai_model == "m"


def test_pool_cannot_keep_more_than_it_may_have() -> None:
    fault = fault_of(MONGODB_MIN_POOL_SIZE="11", MONGODB_MAX_POOL_SIZE="10")
    assert fault == "MONGODB_MIN_POOL_SIZE: 11 is above MONGODB_MAX_POOL_SIZE, 10"


def test_half_a_fallback_business_is_a_fault() -> None:
    assert fault_of(WHATSAPP_PHONE_NUMBER_ID="1").startswith("WHATSAPP_TOKEN: missing")
    assert fault_of(WHATSAPP_TOKEN="t").startswith("WHATSAPP_PHONE_NUMBER_ID: missing")


# --- All at once, and no secret -------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once() -> None:
    faults = faults_of(load_for_serve, PORT="x", ADMIN_TOKEN="short", MONGODB_MIN_POOL_SIZE="101", TIMING__ROUND_S="y")
    assert [fault.partition(":")[0] for fault in faults] == [
        "ADMIN_TOKEN",
        "PORT",
        "TIMING__ROUND_S",
        "MONGODB_MIN_POOL_SIZE",
        "MONGODB_URI",
        "MONGODB_DB_NAME",
        "ENCRYPTION_SECRET",
        "ASSISTANT",
        "WHATSAPP_APP_SECRET",
    ]


def test_wrong_value_is_not_told_as_missing_too() -> None:
    assert len(faults_of(load_for_serve, **{**ENOUGH, "MONGODB_URI": "nonsense", "ASSISTANT": "ecko"})) == 2


def test_serve_has_what_it_needs() -> None:
    assert load_for_serve(**ENOUGH).assistant == ENOUGH["ASSISTANT"]


def test_serve_names_the_assistants_to_choose_from() -> None:
    (fault,) = faults_of(load_for_serve, **{**ENOUGH, "ASSISTANT": "", "ASSISTANTS": "mine=x:y"})
    assert fault == (
        "ASSISTANT: missing; choose who writes the replies:"
        " echo, openai, http, none, mine (none stores and answers nobody)"
    )


def test_serve_without_a_signature_has_to_be_meant() -> None:
    env = {**ENOUGH, "WHATSAPP_APP_SECRET": ""}
    (fault,) = faults_of(load_for_serve, **env)
    assert fault.startswith("WHATSAPP_APP_SECRET: missing, so anybody could post webhooks")
    assert load_for_serve(**env, ALLOW_UNSIGNED_WEBHOOKS="true").allow_unsigned_webhooks


SECRET = "sw0rdfish"
SECRETS = {
    "MONGODB_URI": f"mongodb://user:{SECRET}@host/",
    "ENCRYPTION_SECRET": SECRET,
    "ENCRYPTION_SECRETS_OLD": SECRET,
    "WHATSAPP_VERIFY_TOKEN": SECRET,
    "WHATSAPP_APP_SECRET": SECRET,
    "WHATSAPP_TOKEN": SECRET,
    "WHATSAPP_PHONE_NUMBER_ID": "1",
    "REDIS_URL": f"redis://:{SECRET}@host/",
    "ADMIN_TOKEN": SECRET * 3,
    "AI_API_KEY": SECRET,
    "ALERT_WEBHOOK_URL": f"https://host/{SECRET}",
}


def test_secrets_are_hidden_when_settings_are_shown() -> None:
    settings = load(**SECRETS)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


def test_faults_never_show_a_secret() -> None:
    wrong = {
        **SECRETS,
        "MONGODB_URI": f"mongodb://u:{SECRET}@@@h:x/",
        "REDIS_URL": f"redis//{SECRET}",
        "ADMIN_TOKEN": SECRET,
        "ALERT_WEBHOOK_URL": SECRET,
        "PORT": "x",
    }
    with pytest.raises(SettingsInvalid) as caught:
        load(**wrong)
    assert len(caught.value.faults) == 5
    assert SECRET not in "".join(traceback.format_exception(caught.value))
