"""The settings, read once at start; no other module looks at the environment.

One attribute per variable, in lower case. What each means stands in ``.env.example``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from whatsapp_hub.errors import SettingsInvalid
from whatsapp_hub.settings_fields import (
    ASSISTANT_KINDS,
    AdminToken,
    Count,
    CountOrNone,
    DatabaseName,
    Factories,
    GraphVersion,
    HttpUrl,
    Level,
    Levels,
    MongoUri,
    Networks,
    OptionalRateText,
    Port,
    RateText,
    Seconds,
    SecretHttpUrl,
    SecretList,
    SecretRedisUrl,
)
from whatsapp_hub.settings_sources import find_values

LOOPBACK_AND_PRIVATE: Final = tuple(
    map(ip_network, ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
INSTRUCTIONS: Final = (
    "You answer a business's customers on WhatsApp. Be friendly, correct and brief: a few plain sentences, in the"
    " customer's language, without headings or tables. If you do not know something, say so and offer that a person"
    " of the business gets in touch. Never invent prices, dates or promises."
)
_MOST_DAYS: Final = 20_000  # MongoDB refuses an index that expires later than its clock can count
_CONFIG: Final = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Timing(BaseModel):
    """The protocol's own times. Tests shrink them; in production the defaults are meant (``TIMING__<NAME>``)."""

    model_config = _CONFIG

    heartbeat_s: Seconds = 1.0
    lease_s: Seconds = 15.0
    round_s: Seconds = 1.0
    self_fence_s: Seconds = 10.0
    ack_timeout_s: Seconds = 0.8
    body_timeout_s: Seconds = 5.0
    batch_interval_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.03
    status_wait_s: Seconds = 30.0
    held_recheck_s: Seconds = 5.0
    alert_look_s: Seconds = 5.0
    pending_look_s: Seconds = 5.0
    alert_outage_s: Seconds = 15.0  # longer than the election of a new primary
    promote_backoff_max_s: Seconds = 1.0
    retry_base_s: Seconds = 1.0
    retry_max_s: Seconds = 60.0
    assistant_retry_base_s: Seconds = 0.5
    media_retry_base_s: Seconds = 1.0
    negative_cache_s: Seconds = 5.0
    max_turns: Count = 2500
    max_conversations: Count = 20_000  # in memory; more wait in the database


class Settings(BaseModel):
    """Every setting of the hub, checked. Secrets are hidden in its ``repr``.

    Built directly or by ``isolated`` it looks at nothing outside; ``load_settings`` reads the environment.
    """

    model_config = _CONFIG

    mongodb_uri: MongoUri | None = None
    mongodb_db_name: DatabaseName | None = None
    encryption_secret: SecretStr | None = None
    encryption_secrets_old: SecretList = ()
    whatsapp_verify_token: SecretStr | None = None
    whatsapp_app_secret: SecretList = ()
    allow_unsigned_webhooks: bool = False
    whatsapp_phone_number_id: str | None = None
    whatsapp_token: SecretStr | None = None
    business_cache_ttl: Annotated[int | float, Field(gt=0, allow_inf_nan=False)] = 300
    business_cache_size: Count = 1000
    warmup_cache: bool = True
    mongodb_max_pool_size: Count = 100
    mongodb_min_pool_size: CountOrNone = 10
    rate_limit_webhook: RateText = "100/minute"
    rate_limit_health: RateText = "100/minute"
    rate_limit_metrics: RateText = "10/minute"
    rate_limit_admin: RateText = "1/minute"
    rate_limit_business: RateText = "80/second"
    rate_limit_customer: OptionalRateText = "200/hour"  #: empty: no limit
    reply_max_age_s: Seconds = 21_600.0
    redis_url: SecretRedisUrl | None = None
    trusted_proxies: Networks = ()
    admin_token: AdminToken | None = None
    metrics_allow: Networks = LOOPBACK_AND_PRIVATE
    graph_api_base_url: HttpUrl = "https://graph.facebook.com"
    graph_api_version: GraphVersion = "v26.0"
    graph_max_connections: Count = 200
    assistant: str | None = None
    assistants: Factories = Field(default_factory=dict)
    assistant_allow_nets: Networks = ()
    ai_base_url: HttpUrl = "https://api.openai.com/v1"
    ai_api_key: SecretStr | None = None
    ai_model: str | None = None
    ai_instructions: str = INSTRUCTIONS
    ai_timeout_s: Seconds = 60.0
    ai_max_connections: Count = 1000
    history_turns: CountOrNone = 20
    typing_indicator: bool = True
    inbox_retention_days: Annotated[int, Field(ge=8, le=_MOST_DAYS)] = 14  # Meta redelivers for up to 7 days
    conversation_retention_days: Annotated[int, Field(ge=1, le=_MOST_DAYS)] = 90
    dead_retention_days: Annotated[int, Field(ge=1, le=_MOST_DAYS)] = 90
    drain_timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 25.0
    log_format: Literal["json", "text"] = "json"
    log_level: Level = "INFO"
    log_levels: Levels = Field(default_factory=dict)
    log_file: Path | None = None
    alert_webhook_url: SecretHttpUrl | None = None
    media_max_bytes: Annotated[int, Field(ge=1, le=100_000_000)] = 16 * 1024 * 1024  # Meta sends up to 100 MB
    ai_transcription_model: str = "whisper-1"  #: empty: sounds are not transcribed
    ai_speech_model: str = "tts-1"
    ai_voice: str = "alloy"
    host: str = "0.0.0.0"  # noqa: S104 - the contract's default: it is a server
    port: Port = 8000
    timing: Timing = Timing()

    @staticmethod
    def isolated(**values: object) -> Settings:
        """Build settings from these values alone, without the environment or any file. Raises ``SettingsInvalid``."""
        settings, faults = _validate(values)
        if settings is None or faults:
            raise SettingsInvalid(list(faults.values()))
        return settings


#: Every environment variable of the contract, without the protocol's times.
VARIABLES: Final = tuple(name.upper() for name in Settings.model_fields if name != "timing")
_TIMING_VARIABLES: Final = tuple(f"TIMING__{name.upper()}" for name in Timing.model_fields)
_MAY_BE_EMPTY: Final = frozenset({"RATE_LIMIT_CUSTOMER", "AI_TRANSCRIPTION_MODEL"})


def load_settings(
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    env_file: Path | None = Path(".env"),
    serve: bool = False,
) -> Settings:
    """Read and check the settings; ``overrides`` (the command line's, by attribute) win over everything.

    Args:
        env: instead of the process's environment.
        overrides: values by attribute; None leaves what the environment says.
        env_file: None: no such file is read.
        serve: also what only ``serve`` asks for has to be there.

    Raises:
        SettingsInvalid: with every fault at once, each in words behind its variable's name, never with a secret.

    """
    texts, unreadable = find_values(
        (*VARIABLES, *_TIMING_VARIABLES), os.environ if env is None else env, env_file, may_be_empty=_MAY_BE_EMPTY
    )
    values = _by_attribute(texts) | {name: value for name, value in (overrides or {}).items() if value is not None}
    faults = {name: f"{name}: {words}" for name, words in unreadable.items()}
    settings, invalid = _validate(values)
    faults |= invalid
    if serve and settings is not None:
        faults |= {name: f"{name}: {words}" for name, words in _find_missing(settings) if name not in faults}
    if settings is None or faults:
        raise SettingsInvalid(list(faults.values()))
    return settings


def _by_attribute(texts: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    timing: dict[str, str] = {}
    for name, text in texts.items():
        if name.startswith("TIMING__"):
            timing[name.removeprefix("TIMING__").lower()] = text
        else:
            values[name.lower()] = text
    return values | ({"timing": timing} if timing else {})


def _validate(values: Mapping[str, object]) -> tuple[Settings | None, dict[str, str]]:
    """Check what can be checked even where some of it is wrong, so that all faults are told at once."""
    faults: dict[str, str] = {}
    for _ in range(2):
        try:
            settings = Settings.model_validate(values)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                name = "__".join(str(step).upper() for step in error["loc"][: 2 if error["loc"][0] == "timing" else 1])
                faults.setdefault(name, f"{name}: {_explain(error)}")
            wrong = {error["loc"][0] for error in exc.errors(include_input=False, include_url=False)}
            values = {name: value for name, value in values.items() if name not in wrong}
            continue
        for name, words in _find_conflicts(settings):
            faults.setdefault(name, f"{name}: {words}")
        return settings, faults
    return None, faults


def _explain(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "int_parsing" | "int_from_float":
            return f"{error['input']!r} is not a whole number; write digits only"
        case "float_parsing" | "finite_number":
            return f"{error['input']!r} is not a number; write one like 2.5"
        case "bool_parsing":
            return f"{error['input']!r} is neither true nor false; write one of the two"
        case "greater_than_equal":
            return f"{error['input']!r} is too small; at least {context['ge']:g}"
        case "greater_than":
            return f"{error['input']!r} is too small; it has to be above {context['gt']:g}"
        case "less_than_equal":
            return f"{error['input']!r} is too large; at most {context['le']:g}"
        case "literal_error":
            return f"{error['input']!r} is not known; write {context['expected']}"
        case "extra_forbidden":
            return "there is no such setting; .env.example has them all"
    return error["msg"].removeprefix("Input ")


def _find_conflicts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find values that are right by themselves but not together."""
    choices = (*ASSISTANT_KINDS, *settings.assistants)
    if settings.assistant is not None and settings.assistant not in choices:
        yield "ASSISTANT", f"{settings.assistant!r} is not known; choose one of {', '.join(choices)}"
    if settings.assistant == "openai" and not settings.ai_model:
        yield "AI_MODEL", "needed with ASSISTANT=openai; write the name of the model, as its server calls it"
    if settings.mongodb_min_pool_size > settings.mongodb_max_pool_size:
        most = settings.mongodb_max_pool_size
        yield "MONGODB_MIN_POOL_SIZE", f"{settings.mongodb_min_pool_size} is above MONGODB_MAX_POOL_SIZE, {most}"
    if (settings.whatsapp_phone_number_id is None) is not (settings.whatsapp_token is None):
        missing = "WHATSAPP_TOKEN" if settings.whatsapp_token is None else "WHATSAPP_PHONE_NUMBER_ID"
        yield missing, "missing; the fallback business needs WHATSAPP_PHONE_NUMBER_ID and WHATSAPP_TOKEN, or neither"
    timing = settings.timing
    if not timing.heartbeat_s < timing.self_fence_s < timing.lease_s:
        yield "TIMING__SELF_FENCE_S", "has to lie between TIMING__HEARTBEAT_S and TIMING__LEASE_S"


def _find_missing(settings: Settings) -> Iterator[tuple[str, str]]:
    """Find what a production server cannot do without."""
    if settings.mongodb_uri is None:
        yield "MONGODB_URI", "missing; write one like mongodb://host:27017/?replicaSet=rs0"
    if settings.mongodb_db_name is None:
        yield "MONGODB_DB_NAME", "missing; write the name of the database that holds the collection businesses"
    if settings.encryption_secret is None:
        yield "ENCRYPTION_SECRET", "missing; write the secret with which the businesses' tokens were encrypted"
    if settings.assistant is None:
        choices = ", ".join((*ASSISTANT_KINDS, *settings.assistants))
        yield "ASSISTANT", f"missing; choose who writes the replies: {choices} (none stores and answers nobody)"
    if not settings.whatsapp_app_secret and not settings.allow_unsigned_webhooks:
        remedy = "write your Meta app's secret, or ALLOW_UNSIGNED_WEBHOOKS=true if you mean it"
        yield "WHATSAPP_APP_SECRET", f"missing, so anybody could post webhooks; {remedy}"
