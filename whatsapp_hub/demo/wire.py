"""The wire format of the stand-in for Graph: what it takes, and the bodies that it answers with (pure)."""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from whatsapp_hub.cloud_api.outgoing import CALLBACK_DATA_LIMIT, is_bsuid
from whatsapp_hub.demo.message_check import check_content
from whatsapp_hub.demo.refused import Refused


def load_json(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def read_body(raw: bytes) -> dict[str, Any]:
    """Read the body of a call for WhatsApp. Raises ``Refused``."""
    body = load_json(raw)
    if body.get("messaging_product") != "whatsapp":
        raise Refused(100, "The parameter messaging_product is required.")
    return body


def check_message(body: dict[str, Any]) -> None:
    """Check a message as Graph would. Raises ``Refused``."""
    if not any(isinstance(body.get(key), str) and body[key] for key in ("to", "recipient")):
        raise Refused(100, "The parameter to is required.")
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        raise Refused(100, "Param recipient_type must be one of {individual, group}")
    check_content(body)
    if len(str(body.get("biz_opaque_callback_data", ""))) > CALLBACK_DATA_LIMIT:
        raise Refused(100, f"Param biz_opaque_callback_data must be at most {CALLBACK_DATA_LIMIT} characters long.")


def text_of(body: dict[str, Any]) -> str:
    """Return the text of a text message, "" for others."""
    match body.get("text"):
        case {"body": str(text)}:
            return text
    return ""


def is_plain_text(body: dict[str, Any]) -> bool:
    """Tell whether a message is its text and nothing else."""
    text = body.get("text")
    return "context" not in body and body.get("type", "text") == "text" and isinstance(text, dict) and len(text) == 1


def success_body(customer: str, wamid: str) -> bytes:
    """Return the answer to a message that was taken."""
    contact = {"input": customer, "user_id" if is_bsuid(customer) else "wa_id": customer.removeprefix("+")}
    return orjson.dumps({"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]})


def error_body(code: int, details: str) -> bytes:
    """Return an error in Graph's form."""
    return orjson.dumps(
        {
            "error": {
                "message": f"(#{code}) {details}",
                "type": "OAuthException",
                "code": code,
                "error_data": {"messaging_product": "whatsapp", "details": details},
                "fbtrace_id": secrets.token_urlsafe(12),
            }
        }
    )
