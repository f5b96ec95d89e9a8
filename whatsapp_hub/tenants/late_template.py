"""The template that a business has for replies that come too late, as its document says (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from whatsapp_hub.cloud_api.parts import build_template
from whatsapp_hub.cloud_api.replies import Template
from whatsapp_hub.errors import ReplyInvalid

FORM = "write {name, language, components?}, the components in Meta's form"


def read_late_template(value: object) -> tuple[Template | None, str | None]:
    """Read ``lateTemplate``; return it, or what is wrong with it."""
    if value is None:
        return None, None
    if not isinstance(value, Mapping) or value.keys() - {"name", "language", "components"}:
        return None, f"is no template: {FORM}"
    name, language, components = value.get("name"), value.get("language"), value.get("components") or ()
    if not (isinstance(name, str) and isinstance(language, str) and isinstance(components, list | tuple)):
        return None, f"is no template: {FORM}"
    template = Template(name=name, language=language, components=tuple(components))
    try:
        build_template(template)
    except ReplyInvalid as error:
        return None, f"cannot be sent: {error}"
    return template, None
