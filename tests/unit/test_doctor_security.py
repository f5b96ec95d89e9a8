"""What ``doctor`` says of settings that are valid and leave a door open."""

from __future__ import annotations

from typing import Any

import pytest

from whatsapp_hub.commands.doctor_security import check_security
from whatsapp_hub.settings import Settings

USUAL: dict[str, Any] = {"whatsapp_app_secret": "app", "encryption_secret": "a-long-and-random-secret"}


def look(**settings: Any) -> list[tuple[str, str]]:
    findings = check_security(Settings.isolated(**{**USUAL, **settings}))
    assert all(finding.remedy for finding in findings if finding.verdict != "ok")
    return [(finding.verdict.value, finding.words) for finding in findings]


def test_usual_settings_leave_no_door_open() -> None:
    assert look() == [("ok", "no door is left open")]
    narrow = "10.0.0.0/8,192.0.2.0/24"
    assert look(trusted_proxies=narrow, metrics_allow=narrow, assistant_allow_nets="10.1.2.0/24") == look()


@pytest.mark.parametrize(
    ("settings", "verdict", "name"),
    [
        ({"whatsapp_app_secret": "", "allow_unsigned_webhooks": True}, "mend", "anybody can post webhooks"),
        ({"allow_unsigned_webhooks": True}, "note", "ALLOW_UNSIGNED_WEBHOOKS is true and has no effect"),
        ({"encryption_secret": "short"}, "note", "ENCRYPTION_SECRET is under 24"),
        ({"trusted_proxies": "0.0.0.0/0"}, "mend", "TRUSTED_PROXIES believes 0.0.0.0/0"),
        ({"trusted_proxies": "10.0.0.0/8,::/0"}, "mend", "TRUSTED_PROXIES believes ::/0"),
        ({"metrics_allow": "0.0.0.0/0,::/0"}, "mend", "METRICS_ALLOW shows the metrics to 0.0.0.0/0, ::/0"),
        ({"metrics_allow": "0.0.0.0/1,128.0.0.0/1"}, "mend", "METRICS_ALLOW shows the metrics to 0.0.0.0/1"),
        ({"assistant_allow_nets": "0.0.0.0/0"}, "mend", "ASSISTANT_ALLOW_NETS lets URLs"),
        ({"assistant_allow_nets": "169.254.0.0/16"}, "mend", "ASSISTANT_ALLOW_NETS lets URLs"),
    ],
    ids=str,
)
def test_open_door_is_named(settings: dict[str, Any], verdict: str, name: str) -> None:
    ((found, words),) = look(**settings)
    assert (found, words.startswith(name)) == (verdict, True)


def test_secret_is_not_shown() -> None:
    assert "hush" not in str(look(encryption_secret="hush"))
