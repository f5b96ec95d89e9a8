"""What a turn takes in and gives out besides words: files that came along, sounds that are heard, and a voice."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from whatsapp_hub.assistants.base import CustomerMessage
from whatsapp_hub.assistants.voice import Voice
from whatsapp_hub.cloud_api.contents import MediaContent
from whatsapp_hub.cloud_api.inbound import MEDIA_KINDS
from whatsapp_hub.cloud_api.media import MediaClient, MediaFile
from whatsapp_hub.cloud_api.replies import Reply
from whatsapp_hub.errors import MediaUnavailable
from whatsapp_hub.tenants.business import Business


class FetchedAttachment:
    """A file of a customer, fetched when somebody asks for it, once."""

    def __init__(self, media: MediaContent, fetch: Callable[[], Awaitable[MediaFile]]) -> None:
        self._media = media
        self._fetch = fetch
        self._lock = asyncio.Lock()
        self._outcome: MediaFile | MediaUnavailable | None = None

    @property
    def media(self) -> MediaContent:
        """What Meta says of it."""
        return self._media

    async def read(self) -> bytes:
        """Return what is in it. Raises ``MediaUnavailable``, the second time without having asked again."""
        async with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = await self._fetch()
                except MediaUnavailable as error:
                    self._outcome = error
            if isinstance(self._outcome, MediaUnavailable):
                raise MediaUnavailable(str(self._outcome))
            return await self._outcome.read()

    def close(self) -> None:
        """Let go of the file: the turn is over."""
        if isinstance(self._outcome, MediaFile):
            self._outcome.close()
        self._outcome = MediaUnavailable("its turn is over")


class Senses:
    """Ears, eyes and a voice for a turn."""

    def __init__(self, media: MediaClient, voice: Voice) -> None:
        """Fetch with this client, hear and speak with this voice."""
        self._media = media
        self._voice = voice

    @asynccontextmanager
    async def perceive(
        self, messages: tuple[CustomerMessage, ...], phone_number_id: str, business: Business
    ) -> AsyncIterator[tuple[CustomerMessage, ...]]:
        """Yield the messages with what came along, sounds heard; files last as long as the context."""
        seen = tuple(self._attach(message, phone_number_id, business) for message in messages)
        try:
            yield await self._voice.hear(seen, business)
        finally:
            for message in seen:
                if isinstance(message.attachment, FetchedAttachment):
                    message.attachment.close()

    async def speak(
        self, replies: Sequence[Reply], messages: Sequence[CustomerMessage], business: Business
    ) -> Sequence[Reply]:
        """Return the replies, spoken where the customer has spoken and the business wants it."""
        return await self._voice.speak(replies, messages, business)

    def _attach(self, message: CustomerMessage, phone_number_id: str, business: Business) -> CustomerMessage:
        content = message.content if message.kind in MEDIA_KINDS else None
        if not isinstance(content, MediaContent):
            return message

        async def fetch() -> MediaFile:
            return await self._media.fetch(
                media_id=content.id,
                phone_number_id=phone_number_id,
                token=business.access_token or "",
                sha256=content.sha256,
            )

        return dataclasses.replace(message, attachment=FetchedAttachment(content, fetch))


def carry_files(messages: Sequence[CustomerMessage]) -> bool:
    """Tell whether there is anything to fetch; nearly never."""
    return any(message.kind in MEDIA_KINDS for message in messages)
