"""What ``doctor`` looks at in the businesses: documents that cannot be used, tokens, and messages that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from whatsapp_hub.assistants.registry import open_assistants
from whatsapp_hub.cloud_api.messages import phone_number_id_of
from whatsapp_hub.commands.account_findings import EXPIRES_SOON
from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.commands.tenants import find_secrets, open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.errors import SettingsInvalid, VaultError
from whatsapp_hub.inbox.document import Stage, State
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import Business, Unserved
from whatsapp_hub.tenants.directory import Directory
from whatsapp_hub.tenants.managed import BusinessDocuments, Document
from whatsapp_hub.tenants.vault import Vault

#: So many waiting messages are looked at, and so many dead letters counted.
MOST: Final = 100_000
_REMEDY: Final = "look at it with `whatsapp-hub business show`; `business set-token` stores a token anew"


async def check_tenants(database: Database, settings: Settings) -> list[Finding]:
    """Look at every business, and at what waits in the inbox for one. Raises ``StoreUnavailable``."""
    directory = Directory(database, open_vault(settings), settings, Metrics())
    await directory.refresh()
    businesses = await directory.find_all()
    faults = [
        *(mend("business", f"{problem.business}: {problem.reason}", _REMEDY) for problem in directory.problems()),
        *_find_faults(businesses),
        *_find_expiries(businesses, datetime.now(UTC)),
        *await _find_assistant_faults(businesses, settings),
    ]
    served = sum(business.enabled for business in businesses)
    summary = f"{len(businesses)} in the database, {served} switched on"
    if not businesses and settings.whatsapp_phone_number_id is None:
        found = note("businesses", "none yet", "`whatsapp-hub business add` makes one")
    else:
        found = ok("businesses", summary)
    return [found, *faults, *await _check_waiting(database, directory)]


async def check_secret(database: Database, settings: Settings) -> Finding:
    """See whether ENCRYPTION_SECRET is the one with which the businesses' secrets were encrypted."""
    return judge_secret(await BusinessDocuments(database).find_all(), open_vault(settings))


def judge_secret(documents: Sequence[Document], vault: Vault) -> Finding:
    """Tell a wrong secret, which opens nothing, from businesses whose secrets were stored wrongly."""
    opened = Counter(_opens(vault, stored) for document in documents for _, stored in find_secrets(document))
    if not opened:
        return ok("encryption", "no secret is stored yet")
    if opened[False] and not opened[True]:
        words = f"ENCRYPTION_SECRET opens none of the {opened.total()} secrets in the businesses' documents"
        remedy = "write the one of the program that stores them; a former one belongs into ENCRYPTION_SECRETS_OLD"
        return mend("encryption", words, remedy)
    if opened[False]:
        remedy = "add the secret that wrote them to ENCRYPTION_SECRETS_OLD, or store them anew"
        return note("encryption", f"{opened[False]} of {opened.total()} stored secrets do not open", remedy)
    return ok("encryption", f"ENCRYPTION_SECRET opens all {opened.total()} stored secrets")


def _opens(vault: Vault, stored: str) -> bool:
    try:
        vault.decrypt(stored)
    except VaultError:
        return False
    return True


async def check_dead_letters(database: Database) -> Finding:
    """Count the dead letters."""
    count = await database.inbox.count_documents({"state": State.DEAD.value, "dead_at": {"$exists": True}}, limit=MOST)
    if not count:
        return ok("dead letters", "none")
    return note("dead letters", f"{count}", "`whatsapp-hub dead list` says why; retry or discard them")


def _find_faults(businesses: Sequence[Business]) -> Iterator[Finding]:
    for business in businesses:
        if business.enabled and business.fault:
            yield mend("business", f"{business.sub_domain} is held: {business.fault}", _REMEDY)


def _find_expiries(businesses: Sequence[Business], now: datetime) -> Iterator[Finding]:
    for business in businesses:
        expires_at = business.token_expires_at
        if not business.enabled or expires_at is None or expires_at - now > EXPIRES_SOON:
            continue
        words = "expired on" if expires_at <= now else "expires on"
        remedy = f"make a new one at Meta, then `whatsapp-hub business set-token {business.sub_domain}`"
        yield mend("token", f"{business.sub_domain}: its access token {words} {expires_at:%Y-%m-%d}", remedy)


async def _find_assistant_faults(businesses: Sequence[Business], settings: Settings) -> list[Finding]:
    """Ask the assistants themselves, as a server would; without ASSISTANT there are none to ask."""
    if settings.assistant is None:
        return []
    try:
        async with open_assistants(settings, Metrics()) as assistants:
            faults = {
                business.sub_domain: assistants.find_fault(business.assistant)
                for business in businesses
                if business.enabled
            }
    except SettingsInvalid as exc:
        return [mend("assistants", fault, "correct the setting: serve would not start") for fault in exc.faults]
    return [
        mend("assistant", f"{sub_domain}: {fault}", "correct its document's field assistant, or the setting")
        for sub_domain, fault in faults.items()
        if fault
    ]


async def _check_waiting(database: Database, directory: Directory) -> list[Finding]:
    waiting: Counter[str] = Counter()
    held: dict[str, str] = {}
    cursor = database.inbox.find({"owner": {"$exists": True}}, {"stage": 1, "reason": 1}).limit(MOST)
    async for document in cursor:
        number = phone_number_id_of(document["_id"])
        waiting[number] += 1
        if document.get("stage") == Stage.HELD.value:
            held[number] = document.get("reason") or "no reason is known"
    findings: list[Finding] = []
    for number, count in sorted(waiting.items()):
        found = await directory.find(number)
        reason = found.reason if isinstance(found, Unserved) else held.get(number)
        if reason is not None:
            findings.append(_describe_waiting(number, count, reason, found))
    return findings or [ok("waiting messages", f"{waiting.total()}, none of them held")]


def _describe_waiting(number: str, count: int, reason: str, found: Business | Unserved) -> Finding:
    many = f"{count} message{'s' * (count != 1)}"
    if isinstance(found, Unserved):
        remedy = "`whatsapp-hub business add`, or add the number to its business: they are answered then"
        return mend("waiting messages", f"phone number id {number}, {many}: {reason}", remedy)
    remedy = (
        f"mend the reason (a new token: `whatsapp-hub business set-token {found.sub_domain}`); it goes on by itself"
    )
    return mend("waiting messages", f"{found.sub_domain}, number {number}, {many} held: {reason}", remedy)
