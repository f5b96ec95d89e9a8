"""The indexes on ``businesses`` that the deployment guide names. The collection is not ours: nothing insists."""

from __future__ import annotations

from typing import Final

import pymongo

from whatsapp_hub.database import Database, DatabaseError

LIST_TIMEOUT_S: Final = 2.0
INDEXES: Final = {
    "webhook_lookup_idx": [("whatsappPhoneNumberIds", 1), ("whatsappEnabled", 1), ("isActive", 1)],
    "subdomain_lookup_idx": [("subDomain", 1), ("isActive", 1)],
    "active_businesses_idx": [("whatsappEnabled", 1), ("isActive", 1), ("createdAt", -1)],
}


async def ensure_indexes(database: Database) -> list[str]:
    """Create what is missing; return what the operator should know, in words. Never raises for the database's sake."""
    try:
        with pymongo.timeout(LIST_TIMEOUT_S):
            existing = await database.businesses.index_information()
    except DatabaseError as exc:
        return [f"the indexes of businesses cannot be listed ({_name(exc)}): grant listIndexes, or see that it is up"]
    names = {tuple(index["key"]): name for name, index in existing.items()}
    reports: list[str] = []
    for name, keys in INDEXES.items():
        found = names.get(tuple(keys))
        if found is None:
            reports += await _create(database, name, keys)
        elif found != name:
            reports.append(f"index {name} is there under the name {found}: nothing to do")
    return reports


async def _create(database: Database, name: str, keys: list[tuple[str, int]]) -> list[str]:
    try:
        await database.businesses.create_index(keys, name=name)
    except DatabaseError as exc:
        fields = ", ".join(f"{field}: {order}" for field, order in keys)
        command = f'db.businesses.createIndex({{{fields}}}, {{name: "{name}"}})'
        return [
            f"index {name} is missing and cannot be created ({_name(exc)}): run {command} as the collection's owner"
        ]
    return []


def _name(exc: DatabaseError) -> str:
    code = getattr(exc, "code", None)
    return type(exc).__name__ if code is None else f"{type(exc).__name__} {code}"
