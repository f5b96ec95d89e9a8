"""Media that replies bring along: uploaded to Meta before anything is decided for good, so that twice harms nothing."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeGuard

from whatsapp_hub.cloud_api.errors import Verdict
from whatsapp_hub.cloud_api.media_types import MediaReply, UploadResult, find_media_fault
from whatsapp_hub.cloud_api.replies import Audio, Media, Reply, Sticker, Text
from whatsapp_hub.conversation.holds import HoldKind, Holds
from whatsapp_hub.conversation.steps import Dead, Held
from whatsapp_hub.inbox.document import InboxRow
from whatsapp_hub.tenants.business import Business

logger = logging.getLogger("conversation")

#: Meta keeps what was uploaded for 30 days (business-phone-numbers/media).
IDS_LIVE_S: Final = 29 * 86_400.0
MOST_IDS: Final = 10_000
_HASHED_AT_ONCE_BYTES: Final = 256 * 1024  # more than that is hashed beside the event loop

_Key = tuple[str, str, str]  # number, type, hash


class UploadFailed(Exception):
    """Graph does not take the upload now."""

    def __init__(self, reason: str, retry_after_s: float | None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Uploader(Protocol):
    """Who uploads to Graph."""

    async def upload(self, *, phone_number_id: str, token: str, data: bytes, mime_type: str) -> UploadResult:
        """Upload media; never raises."""
        ...


def has_data(reply: Reply) -> TypeGuard[MediaReply]:
    """Tell whether a reply shows media that has to be uploaded first."""
    return isinstance(reply, MediaReply) and reply.media.data is not None


class Attachments:
    """Uploads what replies bring along, and remembers the ids as long as they live."""

    def __init__(
        self, uploader: Uploader, holds: Holds, *, most_ids: int = MOST_IDS, ids_live_s: float = IDS_LIVE_S
    ) -> None:
        """Hold a number whose token is refused."""
        self._uploader = uploader
        self._holds = holds
        self._most_ids = most_ids
        self._ids_live_s = ids_live_s
        self._ids: OrderedDict[_Key, tuple[str, float]] = OrderedDict()  # id and when it ends, by monotonic seconds

    async def upload(self, row: InboxRow, business: Business, replies: Sequence[Reply]) -> list[Reply]:
        """Return the replies with ids in place of data; where media cannot be used, with what else they say.

        Raises:
            UploadFailed: not now.
            Held: the business cannot send.
            Dead: nothing is left to say.

        """
        said: list[Reply] = []
        faults: list[str] = []
        for reply in replies:
            if not has_data(reply):
                said.append(reply)
                continue
            fault = find_media_fault(reply) or await self._give_id(row, business, reply, said)
            if fault:
                faults.append(fault)
                said += self._without_media(row, business, reply, fault)
        if faults and not said:
            raise Dead(f"media cannot be sent, and nothing else was to be said: {'; '.join(faults)}")
        return said

    def forget(self, media_id: str) -> None:
        """Use an id no more: Graph does not know it any longer."""
        for key in [key for key, (known, _) in self._ids.items() if known == media_id]:
            del self._ids[key]

    async def _give_id(self, row: InboxRow, business: Business, reply: MediaReply, said: list[Reply]) -> str | None:
        """Add the reply with its id, or say why its media cannot be used."""
        data, mime_type = reply.media.data or b"", reply.media.mime_type or ""
        key = (row.phone_number_id, mime_type, await _hash(data))
        media_id = self._known(key)
        if media_id is None:
            result = await self._uploader.upload(
                phone_number_id=row.phone_number_id,
                token=business.access_token or "",
                data=data,
                mime_type=mime_type,
            )
            if result.verdict is Verdict.DEAD:
                return result.reason
            media_id = self._taken(row, business, result)
            self._remember(key, media_id)
        said.append(replace(reply, media=Media(id=media_id, mime_type=mime_type)))
        return None

    def _taken(self, row: InboxRow, business: Business, result: UploadResult) -> str:
        """Return the id of an upload that was taken; raise what follows where it was not."""
        if result.verdict is Verdict.HOLD:
            number = row.phone_number_id
            self._holds.hold(number, HoldKind.REFUSED, result.reason, business, again_after_s=result.retry_after_s)
            raise Held(result.reason)
        if result.verdict is not Verdict.SENT:
            raise UploadFailed(result.reason, result.retry_after_s)
        return result.media_id

    def _without_media(self, row: InboxRow, business: Business, reply: MediaReply, fault: str) -> list[Reply]:
        """Return what a reply says without its media, if anything."""
        logger.warning(
            "media not sent",
            extra={
                "message_id": row.message_id,
                "business": business.sub_domain,
                "kind": type(reply).__name__,
                "reason": fault,
            },
        )
        words = "" if isinstance(reply, Sticker) else reply.words if isinstance(reply, Audio) else reply.caption
        return [Text(body=words, reply_to=reply.reply_to)] if words.strip() else []

    def _known(self, key: _Key) -> str | None:
        media_id, ends = self._ids.get(key, ("", 0.0))
        return media_id if time.monotonic() < ends else None

    def _remember(self, key: _Key, media_id: str) -> None:
        self._ids[key] = (media_id, time.monotonic() + self._ids_live_s)
        self._ids.move_to_end(key)
        if len(self._ids) > self._most_ids:
            self._ids.popitem(last=False)


async def _hash(data: bytes) -> str:
    if len(data) <= _HASHED_AT_ONCE_BYTES:
        return hashlib.sha256(data).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
