"""Every error the hub raises on purpose, as a tree by what the caller must do.

The class docstring is the default message. Errors carry data, never a secret, a message text or a phone number.
"""

from __future__ import annotations


class HubError(Exception):
    """Something the hub knows about went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsInvalid(HubError):
    """The settings cannot be used."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class PayloadInvalid(HubError):
    """The webhook's body is not a JSON object."""


class StoreUnavailable(HubError):
    """The database did not confirm in time; whatever was written may or may not be there."""


class DatabaseTaken(HubError):
    """Another program keeps documents where the hub keeps its own."""


class NotOurs(HubError):
    """A fenced write matched nothing: the document belongs to another process or epoch by now."""


class AssistantFailed(HubError):
    """The assistant gave no answer, and asking it again at once would not help."""


class ReplyInvalid(HubError):
    """WhatsApp takes no message like this."""


class BusinessRefused(HubError):
    """What an operator wants of a business cannot be done."""

    def __init__(self, words: str, remedy: str) -> None:
        """``remedy`` says what to do next."""
        super().__init__(f"{words}: {remedy}.")
        self.words = words
        self.remedy = remedy


class VaultError(HubError):
    """A stored secret does not decrypt with any of the known encryption secrets."""


class MediaUnavailable(HubError):
    """What a customer sent along cannot be had."""
