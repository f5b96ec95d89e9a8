"""What Meta tells beside messages and statuses, as values (pure). How it is read: ``cloud_api.notice_reading``."""

from __future__ import annotations

from dataclasses import dataclass, field

from whatsapp_hub.cloud_api.contents import Details


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateNotice:
    """A template was judged, paused, moved or changed."""

    what: str  #: ``status``, ``quality``, ``category`` or ``components``
    name: str
    language: str = ""
    template_id: int | None = None
    new: str = ""  #: status, score or category
    previous: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountNotice:
    """Something happened to a WhatsApp Business Account: Meta's ``account_update``."""

    event: str
    account_id: str = ""  #: of the customer's account, in events of partners
    details: tuple[str, ...] = ()  #: kinds of restrictions, of violations, the state of a ban
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertNotice:
    """Meta's ``account_alerts``."""

    type: str
    severity: str = ""
    status: str = ""
    entity_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberNotice:
    """The quality or the limits of a phone number changed."""

    event: str
    limit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsernameNotice:
    """The business's own username was judged."""

    username: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceNotice:
    """A customer wants marketing messages, or no more of them."""

    value: str  #: ``stop``, ``resume`` or ``signup``
    category: str = ""
    customer: str = field(default="", repr=False)
    timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNotice:
    """A call began or ended, or (``status``) how one that the business makes is getting on."""

    id: str
    event: str = ""  #: ``connect`` or ``terminate``
    status: str = ""
    direction: str = ""
    customer: str = field(default="", repr=False)
    duration_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoNotice:
    """Somebody of the business wrote to a customer elsewhere: in the phone app or, on ``standby``, another agent."""

    id: str
    customer: str = field(repr=False)
    details: Details = field(repr=False)
    timestamp: int | None = None
    standby: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyNotice:
    """A customer wrote while Meta's own agent has the conversation: nobody here is to answer."""

    id: str
    customer: str = field(repr=False)
    details: Details = field(repr=False)
    timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverNotice:
    """A conversation went over to the business, or to another agent."""

    type: str  #: ``control_passed`` or ``control_taken``
    customer: str = field(default="", repr=False)
    phone_number_id: str = ""
    timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNotice:
    """Something happened to a group."""

    type: str
    group_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdNotice:
    """A customer has another user id. Since 2026-08-11 Meta says that this comes as a ``system`` message instead."""

    previous: str = field(repr=False)
    current: str = field(repr=False)
    wa_id: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionNotice:
    """A customer did something without writing: clicked a link of a marketing message, for example."""

    action_type: str
    timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryNotice:
    """A piece of what was said before a coexistence number was connected, or of its app's state."""

    messages: int = 0
    progress: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorNotice:
    """A problem of the app, the account or WhatsApp itself."""

    code: int | None
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherNotice:
    """Something that we do not know."""


Notice = (
    TemplateNotice
    | AccountNotice
    | AlertNotice
    | NumberNotice
    | UsernameNotice
    | PreferenceNotice
    | CallNotice
    | EchoNotice
    | StandbyNotice
    | HandoverNotice
    | GroupNotice
    | UserIdNotice
    | ActionNotice
    | HistoryNotice
    | ErrorNotice
    | OtherNotice
)
