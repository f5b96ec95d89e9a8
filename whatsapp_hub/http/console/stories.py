"""Single messages on the console: conversations, what happened to a message, what was said, and finding one.

Customers are outlined and words left out, until the operator asks for them: that is a POST, and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from whatsapp_hub.cloud_api.messages import conversation_id, customer_of, phone_number_id_of
from whatsapp_hub.database import Database
from whatsapp_hub.errors import StoreUnavailable
from whatsapp_hub.http import keys
from whatsapp_hub.http.answers import json_answer
from whatsapp_hub.http.console import views
from whatsapp_hub.http.console.doors import NotWanted, read_object
from whatsapp_hub.http.console.references import References
from whatsapp_hub.inbox.dead import DeadLetters
from whatsapp_hub.inbox.erasable import read_customer
from whatsapp_hub.inbox.message_log import MOST_CONVERSATIONS, MOST_MESSAGES, Conversation, MessageLog
from whatsapp_hub.inbox.outbound import ID_PREFIX
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.numbers import Numbers

logger = logging.getLogger("console")

MAX_ID_LENGTH: Final = 300
WAMID_PREFIX: Final = "wamid."
MOST_FOUND: Final = 20

_NO_MESSAGE: Final = "there is no message with this id: it may have expired, or its business was erased"
_NO_CONVERSATION: Final = (
    "there is no such conversation: it may have expired, or the link is of before a new ADMIN_TOKEN"
)
_RELOAD: Final = "the page asked for something that does not exist; reload it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stories:
    """What these handlers work with; they find it under ``keys.STORIES``."""

    log: MessageLog
    letters: DeadLetters
    numbers: Numbers
    names: views.Names
    references: References

    async def numbers_of(self, business: str) -> tuple[str, ...] | None:
        """Return the numbers of a business, None where none is named. Raises ``NotWanted`` where there is no such."""
        if not business:
            return None
        numbers = await self.numbers.of(business)
        if numbers is None:
            raise NotWanted(404, "no business has this subdomain; choose one from the list")
        return numbers

    def read_reference(self, request: web.Request) -> str:
        """Return the conversation that a path names. Raises ``NotWanted``."""
        conversation = self.references.read(request.match_info["reference"])
        if conversation is None:
            raise NotWanted(404, _NO_CONVERSATION)
        return conversation


def make_stories(database: Database, settings: Settings, business_of: Callable[[str], str | None]) -> Stories:
    """Put together what the handlers work with, which nobody reaches without an admin token."""
    assert settings.admin_token is not None  # noqa: S101 - checked before
    references = References(settings.admin_token)
    return Stories(
        log=MessageLog(database),
        letters=DeadLetters(database),
        numbers=Numbers(database, fallback=settings.whatsapp_phone_number_id or None),
        names=views.Names(business_of=business_of, reference_to=references.make),
        references=references,
    )


async def list_names(request: web.Request) -> web.Response:
    """Answer with the subdomains, to choose one."""
    return json_answer({"items": await request.app[keys.STORIES].numbers.sub_domains(), "more": None})


async def list_conversations(request: web.Request) -> web.Response:
    """Answer with the latest conversations and, on the first page, what waits for an answer."""
    stories = request.app[keys.STORIES]
    numbers = await stories.numbers_of(request.query.get("business", ""))
    before = read_moment(request.query.get("before"))
    histories = await stories.log.latest(numbers, before=before)
    active = await stories.log.active([history["_id"] for history in histories]) if histories else {}
    waiting = await stories.log.waiting(numbers) if before is None else []
    more = views.told(histories[-1]["updated_at"]) if len(histories) == MOST_CONVERSATIONS else None
    names = stories.names
    return json_answer(
        {
            "items": [views.conversation_view(one, active.get(one["_id"]), names) for one in histories],
            "waiting": [views.waiting_view(row, names) for row in waiting],
            "more": more,
        }
    )


async def show_conversation(request: web.Request) -> web.Response:
    """Answer with the messages of a conversation, the oldest first."""
    stories = request.app[keys.STORIES]
    name = stories.read_reference(request)
    found = await stories.log.conversation(name)
    if not found.is_known:
        raise NotWanted(404, _NO_CONVERSATION)
    return json_answer(stories.names.of(name) | {"items": _lines(found), "more": None})


async def show_message(request: web.Request) -> web.Response:
    """Answer with what happened to a message, step by step."""
    stories = request.app[keys.STORIES]
    document = await _find_message(request, stories)
    return json_answer(views.message_view(document, await _turn_of(document, stories), stories.names))


async def tell_words(request: web.Request) -> web.Response:
    """Answer with what was said in a message and in its answer."""
    stories = request.app[keys.STORIES]
    await read_object(request)
    document = await _find_message(request, stories, words=True)
    _log(request, "words of a message shown", message_ids=[document["_id"]])
    return json_answer(views.words_view(document, await _turn_of(document, stories, words=True)))


async def tell_conversation_words(request: web.Request) -> web.Response:
    """Answer with what was said in some messages of a conversation."""
    stories = request.app[keys.STORIES]
    name = stories.read_reference(request)
    ids = read_ids(await read_object(request), most=MOST_MESSAGES)
    rows = await stories.log.rows(name, ids, words=True)
    words = {row["_id"]: views.words_view(row) for row in rows}
    for history in await stories.log.histories([name], words=True):
        for turn in history.get("turns", ()):
            if turn["id"] in ids and turn["id"] not in words:
                past = {
                    "id": turn["id"],
                    "asked": turn["customer"],
                    "answered": [turn["reply"]] if turn["reply"] else [],
                }
                words[turn["id"]] = past
    _log(request, "words of a conversation shown", message_ids=sorted(words))
    return json_answer({"items": [words[one] for one in ids if one in words], "more": None})


async def tell_customer(request: web.Request) -> web.Response:
    """Answer with whom a conversation is with."""
    stories = request.app[keys.STORIES]
    name = stories.read_reference(request)
    await read_object(request)
    found = await stories.log.conversation(name)
    if not found.is_known:
        raise NotWanted(404, _NO_CONVERSATION)
    _log(request, "customer shown", reference=stories.references.make(name))
    aliases = list(found.history.get("aliases", ())) if found.history else []
    return json_answer({"customer": customer_of(name), "also": aliases})


async def search(request: web.Request) -> web.Response:
    """Answer with the messages that have an id, or the conversations of a customer."""
    stories = request.app[keys.STORIES]
    wanted = await read_object(request)
    query, business = wanted.get("query"), wanted.get("business", "")
    if not isinstance(query, str) or not isinstance(business, str) or not is_id(query := query.strip()):
        raise NotWanted(400, "type a message's id, a phone number, or a customer's id")
    numbers = await stories.numbers_of(business)
    if query.partition(":")[2] or query.startswith((WAMID_PREFIX, ID_PREFIX)):
        return json_answer(await _search_message(stories, query, numbers))
    known = await stories.numbers.all() if numbers is None else numbers
    customer = read_customer(query)
    conversations = [conversation_id(number, customer) for number in known]
    histories = (await stories.log.histories(conversations))[:MOST_FOUND]
    active = await stories.log.active(conversations)
    seen = {history["_id"] for history in histories}
    items = [views.conversation_view(one, active.get(one["_id"]), stories.names) for one in histories]
    items += [views.waiting_view(row, stories.names) for name, row in active.items() if name not in seen]
    return json_answer({"messages": [], "conversations": items[:MOST_FOUND]})


async def _search_message(stories: Stories, query: str, numbers: Sequence[str] | None) -> dict[str, Any]:
    if ":" in query:
        ids = [query] if numbers is None or phone_number_id_of(query) in numbers else []
    else:
        ids = [f"{number}:{query}" for number in (await stories.numbers.all() if numbers is None else numbers)]
    found = await stories.log.find(ids)
    if not found and numbers is not None and query.startswith(WAMID_PREFIX):
        found = await _search_answer(stories, query, numbers)
    rows = [views.row_view(row) | stories.names.of(row["conversation"]) for row in found[:MOST_FOUND]]
    return {"messages": rows, "conversations": []}


async def _search_answer(stories: Stories, wamid: str, numbers: Sequence[str]) -> list[dict[str, Any]]:
    try:
        return await stories.log.find_by_answer(wamid, numbers)
    except StoreUnavailable:
        raise NotWanted(
            504, "no message of a customer has this id, and looking through the answers took too long"
        ) from None


def _lines(found: Conversation) -> list[dict[str, Any]]:
    lines = [views.row_view(row) for row in found.rows]
    kept = {line["id"] for line in lines}
    turns = found.history.get("turns", ()) if found.history else ()
    lines += [views.past_view(turn) for turn in turns if turn["id"] not in kept]
    return sorted(lines, key=lambda line: line["received_at"] or "")


async def _find_message(request: web.Request, stories: Stories, *, words: bool = False) -> dict[str, Any]:
    """Return the document of the message that a path names, with the number's id or without. Raises ``NotWanted``."""
    wanted = request.match_info["id"]
    if not is_id(wanted):
        raise NotWanted(404, _NO_MESSAGE)
    ids = [wanted] if ":" in wanted else [f"{number}:{wanted}" for number in await stories.numbers.all()]
    found = await stories.log.find(ids, words=words)
    if not found:
        raise NotWanted(404, _NO_MESSAGE)
    return found[0]


async def _turn_of(document: dict[str, Any], stories: Stories, *, words: bool = False) -> dict[str, Any] | None:
    """Return the document of the turn that answered a message along with its own, if there is one."""
    turn = document.get("turn")
    if not turn:
        return None
    return next(iter(await stories.log.rows(document["conversation"], [turn], words=words)), None)


def is_id(text: object) -> bool:
    """Tell whether this can be a message's id."""
    return isinstance(text, str) and 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def read_ids(wanted: dict[str, Any], *, most: int) -> list[str]:
    """Return the ids that a script names. Raises ``NotWanted``."""
    ids = wanted.get("ids")
    if not isinstance(ids, list) or not ids or not all(map(is_id, ids)):
        raise NotWanted(400, _RELOAD)
    if len(ids) > most:
        raise NotWanted(413, f"that is too much at once; choose at most {most}")
    return list(dict.fromkeys(ids))


def read_moment(text: str | None) -> datetime | None:
    """Read a moment as ``views.told`` writes it. Raises ``NotWanted``."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotWanted(400, _RELOAD) from None
    if moment.tzinfo is None:
        raise NotWanted(400, _RELOAD)
    return moment


def _log(request: web.Request, what: str, **ids: object) -> None:
    """Say who saw what: by ids, never what it was."""
    logger.info(what, extra={"address": request.app[keys.CLIENT_ADDRESSES].key_of(request), **ids})
