"""The fields of webhooks that Meta's reference names: what kind of change each tells (pure)."""

from __future__ import annotations

from typing import Final

#: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference
KNOWN_FIELDS: Final = frozenset(
    {
        "account_alerts",
        "account_review_update",
        "account_settings_update",
        "account_update",
        "business_capability_update",
        "business_status_update",
        "business_username_update",
        "calls",
        "group_lifecycle_update",
        "group_participants_update",
        "group_settings_update",
        "group_status_update",
        "history",
        "message_template_components_update",
        "message_template_quality_update",
        "message_template_status_update",
        "messages",
        "messaging_handovers",
        "partner_solutions",
        "payment_configuration_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "smb_app_state_sync",
        "smb_message_echoes",
        "standby",
        "template_category_update",
        "template_correct_category_detection",
        "user_id_update",
        "user_preferences",
    }
)
UNKNOWN_FIELD: Final = "unknown"
