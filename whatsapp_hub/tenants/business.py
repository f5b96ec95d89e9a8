"""A business as the hub sees it (pure values). Where it comes from: ``tenants.directory``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from whatsapp_hub.cloud_api.replies import Template

#: How long the assistant is silent in a conversation after a human has answered there, unless the business says else.
DEFAULT_PAUSE_MINUTES: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantChoice:
    """Which assistant a business's own document asks for, and with what."""

    kind: str | None  #: ``echo``, ``openai``, ``http``, ``none`` or an operator's name; None: the environment's
    model: str | None = None
    instructions: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    fallback_text: str | None = None
    temperature: float | None = None
    options: Mapping[str, object] = field(default_factory=dict, repr=False)  #: whatever else the document says
    max_turns_per_day: int | None = None  #: of the business, by UTC; None: any number
    limit_text: str | None = None  #: said once a day to each customer beyond that
    endpoint_url: str | None = None  #: for ``http``
    secret: str | None = field(default=None, repr=False)  #: that requests to it are signed with
    timeout_s: float | None = None  #: for its answer
    pause_minutes: float | None = None  #: how long a human's answer silences the assistant; 0: not at all
    unsupported_text: str | None = None  #: what a message that says nothing is answered with; "": with nothing
    language: str | None = None  #: ``de``, ``pt-BR`` or a name, ``German``
    vision: bool = True  #: show pictures to the model
    transcription_model: str | None = None  #: None: the environment's; "": sounds are not transcribed
    voice_replies: bool = False  #: answer what was spoken with what is spoken
    voice: str | None = None
    speech_model: str | None = None
    late_template: Template | None = None  #: for replies that come over 24 hours after the customer's last message


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """One tenant, its secrets decrypted. Never changed in place: a changed document makes a new one."""

    id: str
    name: str
    sub_domain: str
    account_id: str | None  #: its WhatsApp Business Account (``wabaId``)
    phone_number_ids: tuple[str, ...]
    enabled: bool  #: switched on, both as a business and for WhatsApp
    access_token: str | None = field(repr=False)
    token_expires_at: datetime | None = None
    assistant: AssistantChoice | None = None
    fault: str | None = None  #: why nothing may be sent for it, in words for the operator
    messages_per_second: int | None = None  #: what each of its numbers may send; None: as RATE_LIMIT_BUSINESS says


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """No business can be named for a phone number."""

    reason: str  #: in words for the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookKeys:
    """What counts on one webhook path."""

    app_secrets: tuple[bytes, ...] = field(repr=False)  #: any of them may have signed
    verify_token: str | None = field(repr=False)
    #: Set where the business signs with a secret of its own: only these may be in what it signs.
    only_phone_number_ids: frozenset[str] | None = None
    only_account_id: str | None = None
    sub_domain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTenant:
    """A business as far as its API key goes."""

    id: str
    sub_domain: str | None  #: of the one path on which the key counts; None: on none
    enabled: bool
    phone_number_ids: tuple[str, ...]  #: all that its document names
    own_phone_number_ids: tuple[str, ...]  #: those that it is served with
    key_id: str
