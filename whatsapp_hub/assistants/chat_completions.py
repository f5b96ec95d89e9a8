"""The assistant that asks a model: any server that speaks OpenAI's ``/chat/completions``."""

from __future__ import annotations

from typing import Final

from whatsapp_hub.assistants.base import Text, Turn
from whatsapp_hub.assistants.chat_route import ModelServer, Question, ServerRefused
from whatsapp_hub.assistants.chat_wire import Completion, build_request, read_completion
from whatsapp_hub.assistants.model_servers import ModelServers
from whatsapp_hub.assistants.refusals import Refusals
from whatsapp_hub.assistants.vision import Picture, find_pictures
from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.business import AssistantChoice

#: What a server may say to a picture that its model cannot see; a wrong key or an unknown model has other statuses.
_SEES_NOTHING: Final = frozenset({400, 413, 415, 422, 501})


class ChatCompletions:
    """Asks a model for each turn; says a polite sentence when there is no answer to be had."""

    def __init__(self, settings: Settings, metrics: Metrics, servers: ModelServers) -> None:
        """Ask these servers."""
        self._settings = settings
        self._metrics = metrics
        self._servers = servers
        self._blind = Refusals()

    async def reply(self, turn: Turn) -> tuple[Text, ...]:
        """Return the model's answer or, when it fails for good, the fallback text."""
        try:
            completion = await self._ask(turn)
        except AssistantFailed as error:
            return self._servers.asking.fall_back(turn, error)
        self._metrics.count_assistant("answered")
        self._metrics.count_tokens(turn.sub_domain, "input", completion.input_tokens)
        self._metrics.count_tokens(turn.sub_domain, "output", completion.output_tokens)
        return (Text(body=completion.text),)

    def find_fault(self, choice: AssistantChoice | None) -> str | None:
        """Return why a document (or, for None, the environment) cannot be served, in words for the operator."""
        return self._servers.find_fault(self._choose_server(choice))

    def _choose_server(self, choice: AssistantChoice | None) -> ModelServer:
        return self._servers.choose(choice, (choice.model if choice else None) or self._settings.ai_model or "")

    async def _ask(self, turn: Turn) -> Completion:
        """Ask with the pictures of the turn; a model that sees none is asked with words, now and for a while."""
        server = self._choose_server(turn.choice)
        pictures = await self._find_pictures(turn, server)
        if not pictures:
            return await self._ask_once(turn, server, ())
        try:
            completion = await self._ask_once(turn, server, pictures)
        except ServerRefused as error:
            if error.status not in _SEES_NOTHING:
                raise
            completion = await self._ask_once(turn, server, ())
            self._blind.note((server.url, server.model))  # it was the pictures: without them it answers
            self._metrics.count_media("vision", "refused")
        else:
            self._metrics.count_media("vision", "done")
        return completion

    async def _find_pictures(self, turn: Turn, server: ModelServer) -> tuple[Picture, ...]:
        if all(message.attachment is None for message in turn.messages):
            return ()
        wanted = turn.choice is None or turn.choice.vision
        if not wanted or self._blind.holds((server.url, server.model)) or self._servers.find_fault(server):
            return ()
        return await find_pictures(turn)

    async def _ask_once(self, turn: Turn, server: ModelServer, pictures: tuple[Picture, ...]) -> Completion:
        body = self._build_request(turn, server, pictures)
        question = Question(path="chat/completions", body=body)
        return await self._servers.ask(server, question, read_completion, business=turn.business_id)

    def _build_request(self, turn: Turn, server: ModelServer, pictures: tuple[Picture, ...]) -> bytes:
        choice = turn.choice
        instructions = (choice.instructions if choice else None) or self._settings.ai_instructions
        if choice and choice.language:
            instructions = f"{instructions}\n\nAnswer in this language: {choice.language}."
        return build_request(
            turn,
            model=server.model,
            instructions=instructions,
            temperature=choice.temperature if choice else None,
            pictures=pictures,
        )
