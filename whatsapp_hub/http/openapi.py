"""The description of the API in OpenAPI 3.1 (pure): what ``GET /api/v1/openapi.json`` answers."""

from __future__ import annotations

from typing import Any, Final

from whatsapp_hub import __version__
from whatsapp_hub.http.api_requests import MAX_IDEMPOTENCY_KEY, MAX_MESSAGE_ID, MAX_PAUSE_MINUTES
from whatsapp_hub.http.openapi_messages import KINDS, Schema, examples
from whatsapp_hub.inbox.outbound_state import Progress

_PHONE_NUMBER: Final = r"\+?[0-9]{5,15}"
_BSUID: Final = r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}"
_NUMBER_ID: Final[Schema] = {
    "type": "string",
    "pattern": "^[!-~]+$",
    "maxLength": MAX_MESSAGE_ID,
    "description": "The id of the business's phone number; needed where it has several.",
}

_ENVELOPE: Final[Schema] = {
    "to": {"type": "string", "pattern": f"^{_PHONE_NUMBER}$", "description": "A phone number with its country code."},
    "recipient": {"type": "string", "pattern": f"^{_BSUID}$", "description": "A BSUID, of who shows no number."},
    "from": _NUMBER_ID,
    "reply_to": {
        "type": "string",
        "pattern": "^[!-~]+$",
        "maxLength": MAX_MESSAGE_ID,
        "description": "The id (wamid) of the message that this one quotes.",
    },
    "messaging_product": {"const": "whatsapp"},
    "recipient_type": {"const": "individual"},
}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}


def _send_schema(kind: str, content: Schema) -> Schema:
    """Describe a message of one kind, with whom it goes to."""
    quotes_in_itself = kind == "reaction"
    envelope = {name: schema for name, schema in _ENVELOPE.items() if not (quotes_in_itself and name == "reply_to")}
    return {
        "type": "object",
        "properties": {**envelope, "type": {"const": kind}, kind: content},
        "required": ["type", kind],
        "oneOf": [{"required": ["to"]}, {"required": ["recipient"]}],
        "additionalProperties": False,
    }


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema, **more: Any) -> Schema:
    return {"application/json": {"schema": schema, **more}}


def _answer(description: str, schema: Schema, **more: Any) -> Schema:
    return {"description": description, "content": _json(schema), **more}


_REFUSALS: Final = {
    "400": "The body is not JSON, or a header is not what it should be.",
    "404": "There is no such path, or no such message, or it is not yours.",
    "408": "The body took too long to arrive.",
    "409": "The business is switched off, or has no phone number that it is served with.",
    "413": "The body is larger than 256 KiB.",
    "415": "The body is not application/json, or compressed.",
    "422": "The request is understood and cannot be carried out; says why.",
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}


def _answers(success: Schema, *refusals: str) -> Schema:
    error = _reference("Error")
    return {
        **success,
        **{status: _answer(_REFUSALS[status], error) for status in refusals},
        "401": _answer(
            "The API key is missing or wrong.",
            error,
            headers={"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
        ),
        "429": _answer("Too many wrong keys from this address.", error, headers=_RETRY_AFTER),
        "503": _answer("Not confirmed in time; ask again.", error, headers=_RETRY_AFTER),
    }


_SUB_DOMAIN: Final[Schema] = {
    "name": "subDomain",
    "in": "path",
    "required": True,
    "description": "The business's short name.",
    "schema": {"type": "string", "minLength": 1},
}
_MESSAGE_ID: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "What the answer to the POST called it.",
    "schema": {"type": "string", "pattern": r"^api\.[0-9a-f]{32}$"},
}
_CUSTOMER_ID: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The customer's phone number or BSUID, as Meta names the customer in webhooks.",
    "schema": {"type": "string", "pattern": f"^(?:{_PHONE_NUMBER}|{_BSUID})$"},
}
_IDEMPOTENCY_KEY: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body again: the same answer, and nothing is sent twice.",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": MAX_IDEMPOTENCY_KEY},
}

_SEND: Final[Schema] = {
    "operationId": "sendMessage",
    "summary": "Send a message",
    "description": "Answers when it is stored durably. It is sent in order with the replies of its conversation.",
    "parameters": [_SUB_DOMAIN, _IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": _json(
            {"oneOf": [_reference(name) for name in KINDS]},
            examples={name: {"value": {"to": "491700000001", **message}} for name, message in examples()},
        ),
    },
    "responses": _answers(
        {
            "202": _answer(
                "It is stored and will be sent.",
                _reference("Accepted"),
                headers={"Location": {"description": "Where its state is.", "schema": {"type": "string"}}},
            )
        },
        *("400", "404", "408", "409", "413", "415", "422"),
    ),
}
_SHOW: Final[Schema] = {
    "operationId": "showMessage",
    "summary": "See what became of a message",
    "parameters": [_SUB_DOMAIN, _MESSAGE_ID],
    "responses": _answers({"200": _answer("Its state.", _reference("MessageState"))}, "404"),
}
_PAUSE: Final[Schema] = {
    "operationId": "pauseConversation",
    "summary": "Silence the assistant in a conversation",
    "parameters": [_SUB_DOMAIN, _CUSTOMER_ID],
    "requestBody": {"required": True, "content": _json(_reference("Pause"), example={"minutes": 60})},
    "responses": _answers(
        {"200": _answer("Until when it is silent.", _reference("Paused"))},
        *("400", "404", "408", "409", "413", "415", "422"),
    ),
}

_STATE: Final[Schema] = {"type": "string", "enum": [state.value for state in Progress]}
_PART: Final[Schema] = {
    "type": "object",
    "properties": {
        "state": _STATE,
        "wamid": {"type": ["string", "null"], "description": "Meta's id, as soon as it is known."},
        "times": {"type": "object", "additionalProperties": _TIME, "description": "When Meta said what."},
        "error_code": {"type": ["integer", "null"], "description": "Meta's, where it failed."},
    },
    "required": ["state", "wamid", "times", "error_code"],
}
_SCHEMAS: Final[Schema] = {
    **{name: _send_schema(kind, content) for name, (kind, content, _) in KINDS.items()},
    "Accepted": {
        "type": "object",
        "properties": {"id": {"type": "string"}, "state": {"const": Progress.QUEUED.value}},
        "required": ["id", "state"],
    },
    "MessageState": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "state": {**_STATE, "description": "How far the last of its parts came."},
            "from": _NUMBER_ID,
            "created_at": _TIME,
            "reason": {"type": ["string", "null"], "description": "Why it is not sent, or not yet."},
            "wamids": {"type": "array", "items": {"type": "string"}},
            "parts": {"type": "array", "items": _PART, "description": "The messages that it became."},
        },
        "required": ["id", "state", "from", "created_at", "reason", "wamids", "parts"],
    },
    "Pause": {
        "type": "object",
        "properties": {
            "minutes": {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_PAUSE_MINUTES,
                "description": "0 lets the assistant speak again at once.",
            },
            "from": _NUMBER_ID,
        },
        "required": ["minutes"],
    },
    "Paused": {
        "type": "object",
        "properties": {"paused_until": {"type": ["string", "null"], "format": "date-time"}},
        "required": ["paused_until"],
    },
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
}

DESCRIPTION: Final[Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "WhatsApp Hub",
        "version": __version__,
        "description": "Send WhatsApp messages as a business, in the same queue and with the same promise as replies.",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "security": [{"apiKey": []}],
    "paths": {
        "/api/v1/{subDomain}/messages": {"post": _SEND},
        "/api/v1/{subDomain}/messages/{id}": {"get": _SHOW},
        "/api/v1/{subDomain}/conversations/{id}/pause": {"post": _PAUSE},
    },
    "components": {
        "securitySchemes": {
            "apiKey": {
                "type": "http",
                "scheme": "bearer",
                "description": "`whatsapp-hub business key add SUBDOMAIN` makes one.",
            }
        },
        "schemas": _SCHEMAS,
    },
}
