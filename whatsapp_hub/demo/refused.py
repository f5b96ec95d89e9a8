"""The one error of the stand-in for Graph."""

from __future__ import annotations

from typing import Final

_HTTP_STATUSES: Final = {
    **dict.fromkeys((0, 190), 401),
    **dict.fromkeys((10, 200, 368), 403),
    **dict.fromkeys((3, 131000, 131016, 131045, 131057), 500),
    **dict.fromkeys((2, 133004), 503),
}


class Refused(Exception):
    """Graph does not take this request."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return http_status(self.code)


def http_status(code: int) -> int:
    """Return the HTTP status that Graph sends with an error code."""
    return _HTTP_STATUSES.get(code, 400)
