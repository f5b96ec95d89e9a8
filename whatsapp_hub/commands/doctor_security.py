"""What ``doctor`` looks at in the settings: what can be used and leaves a door open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from whatsapp_hub.commands.findings import Finding, mend, note, ok
from whatsapp_hub.settings import LOOPBACK_AND_PRIVATE, Settings

Network = IPv4Network | IPv6Network

LEAST_SECRET_LENGTH: Final = 24  # as for ADMIN_TOKEN
_WIDEST_PREFIX: Final = 8  # a net that holds more is nobody's own
#: Where clouds hand their credentials to whoever asks from inside.
_CLOUD_METADATA: Final = (ip_address("169.254.169.254"), ip_address("fd00:ec2::254"))
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_NETWORKS: Final = "write the few networks that are meant"


def check_security(settings: Settings) -> list[Finding]:
    """Look for settings that are valid and dangerous."""
    return [*_find_open_doors(settings), *_find_wide_networks(settings)] or [ok("security", "no door is left open")]


def check_proxies(settings: Settings) -> Finding:
    """Look whether addresses of clients can be told apart: behind a proxy only its word tells them."""
    if settings.trusted_proxies:
        return ok("proxy", f"{', '.join(map(str, settings.trusted_proxies))} may say whose a request is")
    if settings.host not in _LOOPBACK:
        return ok("proxy", "none is trusted: right where Meta reaches the hub itself")
    words = f"HOST={settings.host} is for a proxy on this machine, and none is trusted: all clients have one address"
    return note("proxy", words, "TRUSTED_PROXIES=127.0.0.1,::1, or the addresses of whatever is in front")


def _find_open_doors(settings: Settings) -> Iterator[Finding]:
    if settings.allow_unsigned_webhooks:
        remedy = "unset ALLOW_UNSIGNED_WEBHOOKS, and write your Meta app's secret into WHATSAPP_APP_SECRET"
        if settings.whatsapp_app_secret:
            yield note(
                "security", "ALLOW_UNSIGNED_WEBHOOKS is true and has no effect as long as a secret applies", remedy
            )
        else:
            yield mend("security", "anybody can post webhooks: ALLOW_UNSIGNED_WEBHOOKS is true", remedy)
    secret = settings.encryption_secret
    if secret is not None and len(secret.get_secret_value()) < LEAST_SECRET_LENGTH:
        words = f"ENCRYPTION_SECRET is under {LEAST_SECRET_LENGTH} characters: who has the database can guess it"
        remedy = "choose a long random one with the dashboard; the old one goes into ENCRYPTION_SECRETS_OLD meanwhile"
        yield note("security", words, remedy)


def _find_wide_networks(settings: Settings) -> Iterator[Finding]:
    if wide := _wide(settings.trusted_proxies):
        words = f"TRUSTED_PROXIES believes {wide}: whoever sends X-Forwarded-For escapes every limit by address"
        yield mend("security", words, _NETWORKS)
    if wide := _wide(settings.metrics_allow):
        yield mend("security", f"METRICS_ALLOW shows the metrics to {wide}: they name your businesses", _NETWORKS)
    allowed = settings.assistant_allow_nets
    if wide := _wide(allowed):
        words = f"ASSISTANT_ALLOW_NETS lets URLs in business documents reach {wide}"
        yield mend("security", words, _NETWORKS)
    elif any(address in network for network in allowed for address in _CLOUD_METADATA):
        words = "ASSISTANT_ALLOW_NETS lets URLs in business documents reach the cloud's metadata service"
        yield mend("security", words, _NETWORKS)


def _wide(networks: Sequence[Network]) -> str:
    """Name the networks that hold strangers for sure; "" where there are none."""
    return ", ".join(str(one) for one in networks if one.prefixlen < _WIDEST_PREFIX and one not in LOOPBACK_AND_PRIVATE)
