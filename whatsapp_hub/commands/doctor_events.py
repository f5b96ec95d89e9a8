"""What ``doctor`` looks at in the events: what Meta has held against a business lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from whatsapp_hub.commands.events import read_names
from whatsapp_hub.commands.findings import Finding, note, ok
from whatsapp_hub.database import Database
from whatsapp_hub.inbox.event_log import EventLog

LATELY: Final = timedelta(days=7)
MOST: Final = 20


async def check_events(database: Database) -> list[Finding]:
    """Tell each trouble once, the newest first. Raises ``StoreUnavailable``."""
    names = await read_names(database)
    told: dict[tuple[str, str], datetime] = {}
    for trouble in await EventLog(database).find_troubles(since=datetime.now(UTC) - LATELY):
        told.setdefault((names.of(trouble), trouble.words), trouble.at)
    if not told:
        return [ok("what Meta says", f"nothing against a business in the last {LATELY.days} days")]
    remedy = "look into the WhatsApp Manager; `whatsapp-hub events` shows more"
    return [
        note("what Meta says", f"{business}: {words} ({at:%Y-%m-%d})", remedy)
        for (business, words), at in list(told.items())[:MOST]
    ]
