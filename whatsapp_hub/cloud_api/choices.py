"""Texts with something to press: buttons, lists, a link, a request for a location (pure).

What has no room is never lost: a header, a footer or a body that is too long moves into texts that go first, a label
that is cut off stands in full in the body, and choices that WhatsApp has no form for become numbered lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from whatsapp_hub.cloud_api import limits
from whatsapp_hub.cloud_api.message_form import Message, is_https, joined, label, shortened, text_messages
from whatsapp_hub.cloud_api.outgoing import split_text
from whatsapp_hub.cloud_api.replies import Buttons, ChoiceList, LinkButton, ListRow, ListSection, LocationRequest
from whatsapp_hub.errors import ReplyInvalid

#: What opens a list that was to be buttons, or has no word for it: most languages have the word.
OPENER: Final = "Menu"
UNTITLED: Final = "–"  #: a section among others needs a title

_Framed = Buttons | ChoiceList | LinkButton


def button_messages(reply: Buttons) -> list[Message]:
    """Return buttons; more than three, or too much alike when cut, become a list, and the rest numbered lines."""
    rows = tuple(ListRow(id=button.id, title=button.title) for button in reply.buttons)
    sections = (ListSection(rows=rows),)
    return _buttons(reply, rows) or _list(reply, OPENER, sections) or _told(reply, sections)


def list_messages(reply: ChoiceList) -> list[Message]:
    """Return a list; what does not fit into one becomes numbered lines."""
    return _list(reply, reply.button, reply.sections) or _told(reply, reply.sections)


def link_messages(reply: LinkButton) -> list[Message]:
    """Return a link button; a text with the link where the button cannot be."""
    name, url = label(reply.display_text), reply.url.strip()
    if name and is_https(url):
        shown = shortened(name, limits.DISPLAY_TEXT)
        action = {"name": "cta_url", "parameters": {"display_text": shown, "url": url}}
        if messages := _framed(reply, "cta_url", action, limits.BODY, _cut((name, shown))):
            return messages
    return text_messages(reply.header, reply.body, ": ".join(filter(None, (name, url))), reply.footer)


def location_request_messages(reply: LocationRequest) -> list[Message]:
    """Return a request for a location. Raises ``ReplyInvalid`` where nothing says what it is for."""
    *before, body = _split_body("", reply.body.strip(), limits.BODY)
    if not body:
        raise ReplyInvalid("a request for a location needs a text")
    action = {"name": "send_location"}
    return [*text_messages(*before), _interactive("location_request_message", {"text": body}, action)]


def _buttons(reply: Buttons, rows: Sequence[ListRow]) -> list[Message]:
    titles = [label(row.title) for row in rows]
    shown = [shortened(title, limits.BUTTON_TITLE) for title in titles]
    if not (_may_be_pressed(rows, limits.BUTTON_ID) and len(rows) <= limits.BUTTONS and _differ(shown)):
        return []
    buttons = [
        {"type": "reply", "reply": {"id": row.id, "title": title}} for row, title in zip(rows, shown, strict=True)
    ]
    notes = _cut(*zip(titles, shown, strict=True))
    return _framed(reply, "button", {"buttons": buttons}, limits.BODY, notes)


def _list(reply: Buttons | ChoiceList, opener: str, sections: Sequence[ListSection]) -> list[Message]:
    if any(section.title.strip() and not section.rows for section in sections):
        return []  # a title of nothing can only be told
    filled = [section for section in sections if section.rows]
    if not any(section.title.strip() for section in filled):
        filled = [ListSection(rows=_rows(filled))]
    rows = _rows(filled)
    if not (_may_be_pressed(rows, limits.ROW_ID) and len(rows) <= limits.ROWS):
        return []
    notes: list[str] = []
    shown = [_section(section, notes, alone=len(filled) == 1) for section in filled]
    action = {"button": shortened(label(opener) or OPENER, limits.LIST_OPENER), "sections": shown}
    return _framed(reply, "list", action, limits.LIST_BODY, notes)


def _section(section: ListSection, notes: list[str], *, alone: bool) -> dict[str, Any]:
    """Return a section of a list; what of it is cut off goes to the notes."""
    title = label(section.title)
    shown = shortened(title, limits.SECTION_TITLE)
    notes += _cut((title, shown))
    rows = [_row(row, notes) for row in section.rows]
    if not title and alone:
        return {"rows": rows}
    return {"title": shown or UNTITLED, "rows": rows}


def _row(row: ListRow, notes: list[str]) -> dict[str, str]:
    title, description = label(row.title), label(row.description)
    shown = shortened(title, limits.ROW_TITLE)
    if shown != title and not description and len(title) <= limits.ROW_DESCRIPTION:
        description = title  # the room is there, and right below
    elif shown != title:
        notes += _cut((_line(title, description), shown))
    elif len(description) > limits.ROW_DESCRIPTION:
        notes.append(f"- {_line(title, description)}")
    told = {"description": shortened(description, limits.ROW_DESCRIPTION)} if description else {}
    return {"id": row.id, "title": shown, **told}


def _rows(sections: Iterable[ListSection]) -> tuple[ListRow, ...]:
    return tuple(row for section in sections for row in section.rows)


def _may_be_pressed(rows: Sequence[ListRow], id_limit: int) -> bool:
    """Tell whether choices can be told apart when they come back.

    Ids are unique and have no spaces around them, titles are not empty (Meta's page on interactive reply buttons). An
    id is the assistant's own and comes back as it is, so it is never cut.
    """
    ids = [row.id for row in rows]
    fit = all(0 < len(one) <= id_limit and one == one.strip() for one in ids)
    return bool(rows) and fit and _differ(ids) and all(row.title.strip() for row in rows)


def _differ(texts: Sequence[str]) -> bool:
    return len(set(texts)) == len(texts)


def _cut(*pairs: tuple[str, str]) -> list[str]:
    """Return the labels that are not shown in full, as lines."""
    return [f"- {text}" for text, shown in pairs if text != shown]


def _told(reply: Buttons | ChoiceList, sections: Sequence[ListSection]) -> list[Message]:
    """Return choices as numbered lines, for the customer to answer in words."""
    lines: list[str] = []
    number = 0
    for section in sections:
        lines += [title] if (title := label(section.title)) else []
        for row in section.rows:
            if words := _line(label(row.title), label(row.description)):
                number += 1
                lines.append(f"{number}. {words}")
    return text_messages(reply.header, reply.body, "\n".join(lines), reply.footer)


def _line(title: str, description: str) -> str:
    return ": ".join(filter(None, (title, description)))


def _framed(reply: _Framed, kind: str, action: dict[str, Any], limit: int, notes: Sequence[str]) -> list[Message]:
    """Return an interactive message with what stands around its action; nothing where it would have no body."""
    header, body, footer = reply.header.strip(), reply.body.strip(), reply.footer.strip()
    if len(header) > limits.HEADER or "\n" in header or not body:
        header, body = "", joined(header, body)
    if len(footer) > limits.FOOTER or "\n" in footer or not body:
        body, footer = joined(body, footer), ""
    body = joined(body, "\n".join(notes))
    if not body:
        return []
    *before, body = _split_body(header, body, limit)
    around: dict[str, Any] = {"text": body}
    message = _interactive(kind, around, action)
    if header and not before:
        message["interactive"]["header"] = {"type": "text", "text": header}
    if footer:
        message["interactive"]["footer"] = {"text": footer}
    return [*text_messages(*before), message]


def _split_body(header: str, body: str, limit: int) -> list[str]:
    """Return the body alone if it fits; else what has to be said before, with the header, and the end as the body."""
    if len(body) <= limit:
        return [body]
    last = split_text(body, limit)[-1]
    return [header, body[: -len(last)], last]


def _interactive(kind: str, body: dict[str, Any], action: dict[str, Any]) -> Message:
    return {"type": "interactive", "interactive": {"type": kind, "body": body, "action": action}}
