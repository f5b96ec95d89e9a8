"""Where media of customers may be fetched from: Meta's hosts, and wherever the Graph API is (pure).

Meta answers ``GET /{MEDIA_ID}`` with a link on ``lookaside.fbsbx.com`` that needs the business's token (Meta:
business-phone-numbers/media, 2026-06-16). A link that leads elsewhere is not followed, whoever wrote it.
"""

from __future__ import annotations

from typing import Final

from yarl import URL

#: These get the token.
_TRUSTED: Final = frozenset({"graph.facebook.com", "lookaside.fbsbx.com"})
#: Meta's network for files: only where one of the others redirects to, and never with the token.
_STORAGE: Final = ".fbcdn.net"


class MediaHosts:
    """The hosts that are Meta's, and the one of ``GRAPH_API_BASE_URL``."""

    def __init__(self, base_url: str) -> None:
        """Take the address of the Graph API, which the operator has chosen."""
        self._base = URL(base_url).origin()

    def takes_token(self, url: URL) -> bool:
        """Tell whether a link may be fetched with a business's token."""
        return self._is_base(url) or (_is_plain_https(url) and url.host in _TRUSTED)

    def may_fetch(self, url: URL) -> bool:
        """Tell whether a link may be fetched at all."""
        host = url.host or ""
        return self.takes_token(url) or (_is_plain_https(url) and host.endswith(_STORAGE))

    def _is_base(self, url: URL) -> bool:
        return url.absolute and url.user is None and url.password is None and url.origin() == self._base


def _is_plain_https(url: URL) -> bool:
    return url.scheme == "https" and url.port == 443 and url.user is None and url.password is None
