"""Ears and a voice, for every kind of assistant: what customers speak becomes words, and words may be spoken."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import Sequence
from typing import Final

from whatsapp_hub.assistants.base import CustomerMessage
from whatsapp_hub.assistants.chat_route import ModelServer, Question, ServerRefused
from whatsapp_hub.assistants.model_servers import ModelServers
from whatsapp_hub.assistants.refusals import Refusals
from whatsapp_hub.assistants.voice_wire import (
    MAX_SPOKEN_CHARACTERS,
    build_speech,
    build_transcription,
    read_speech,
    read_transcription,
)
from whatsapp_hub.cloud_api.replies import Audio, Media, Reply, Text
from whatsapp_hub.errors import AssistantFailed, MediaUnavailable
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice, Business

MAX_HEARD: Final = 10  # sounds of one turn
MAX_SPOKEN_BYTES: Final = 16_000_000  # Meta's limit for audio (business-phone-numbers/media)
#: A server that has no such route or model says so with these. It is not asked again for a while.
_NOT_THERE: Final = frozenset({404, 405, 501})

logger = logging.getLogger("assistants")


class Voice:
    """Hears and speaks by the business's own server, or the environment's, as the assistant ``openai`` does."""

    def __init__(self, settings: Settings, metrics: Metrics, servers: ModelServers) -> None:
        """Ask these servers."""
        self._settings = settings
        self._metrics = metrics
        self._servers = servers
        self._missing = Refusals()

    async def hear(self, messages: tuple[CustomerMessage, ...], business: Business) -> tuple[CustomerMessage, ...]:
        """Return the messages with what was said in their sounds as text; what cannot be heard stays as it is."""
        sounds = [message for message in messages if message.kind == "audio" and message.attachment is not None]
        server = self._ears(business.assistant)
        if not sounds or server is None:
            return messages
        heard = await asyncio.gather(*(self._transcribe(sound, server, business) for sound in sounds[-MAX_HEARD:]))
        words = {message.id: message for message in heard}
        return tuple(words.get(message.id, message) for message in messages)

    async def speak(
        self, replies: Sequence[Reply], messages: Sequence[CustomerMessage], business: Business
    ) -> Sequence[Reply]:
        """Return the replies with their texts spoken, if the business wants that and the customer has spoken."""
        choice = business.assistant
        if choice is None or not choice.voice_replies or not messages or not messages[-1].heard:
            return replies
        server = self._servers.choose(choice, choice.speech_model or self._settings.ai_speech_model)
        if self._servers.find_fault(server) or self._missing.holds(("speech", server.url, server.model)):
            return replies
        return await asyncio.gather(*(self._say(reply, server, business) for reply in replies))

    def _ears(self, choice: AssistantChoice | None) -> ModelServer | None:
        own = choice.transcription_model if choice else None
        server = self._servers.choose(choice, self._settings.ai_transcription_model if own is None else own)
        if self._servers.find_fault(server) or self._missing.holds(("transcription", server.url, server.model)):
            return None
        return server

    async def _transcribe(self, message: CustomerMessage, server: ModelServer, business: Business) -> CustomerMessage:
        assert message.attachment is not None  # noqa: S101 - the caller has looked
        choice = business.assistant
        try:
            body, content_type = build_transcription(
                await message.attachment.read(),
                mime_type=message.attachment.media.mime_type,
                model=server.model,
                language=choice.language if choice else None,
                boundary=f"hub-{secrets.token_hex(16)}",
            )
            question = Question(path="audio/transcriptions", body=body, content_type=content_type)
            words = await self._servers.ask(server, question, read_transcription, business=business.id)
        except (AssistantFailed, MediaUnavailable) as error:
            self._note_failure("transcription", server, business, error)
            return message
        self._metrics.count_media("transcription", "done")
        return dataclasses.replace(message, text=words, heard=True) if words else message

    async def _say(self, reply: Reply, server: ModelServer, business: Business) -> Reply:
        if not isinstance(reply, Text) or len(reply.body) > MAX_SPOKEN_CHARACTERS:
            return reply
        voice = (business.assistant.voice if business.assistant else None) or self._settings.ai_voice
        try:
            body = build_speech(reply.body, model=server.model, voice=voice)
            question = Question(path="audio/speech", body=body, most_bytes=MAX_SPOKEN_BYTES)
            sound = await self._servers.ask(server, question, read_speech, business=business.id)
        except (AssistantFailed, TypeError) as error:  # TypeError: a text that cannot be encoded
            self._note_failure("speech", server, business, error)
            return reply
        self._metrics.count_media("speech", "done")
        media = Media(data=sound, mime_type="audio/ogg")
        return Audio(media=media, voice=True, words=reply.body, reply_to=reply.reply_to)

    def _note_failure(self, what: str, server: ModelServer, business: Business, error: Exception) -> None:
        missing = isinstance(error, ServerRefused) and error.status in _NOT_THERE
        if missing:
            self._missing.note((what, server.url, server.model))
        self._metrics.count_media(what, "refused" if missing else "failed")
        logger.warning("no %s", what, extra={"business": business.sub_domain, "reason": _reason(error)})


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AssistantFailed | MediaUnavailable) else type(error).__name__
