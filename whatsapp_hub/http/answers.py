"""The answers that every route gives in the same form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import hdrs, web
from multidict import istr

NOTHING_HERE: Final = "there is nothing here"  #: for every path, subdomain and id that there is not, or is not yours
NO_SNIFFING: Final = {"X-Content-Type-Options": "nosniff"}

Headers = Mapping[str, str] | Mapping[istr, str]


def json_answer(body: object, *, status: int = 200, headers: Headers | None = None) -> web.Response:
    """Build a JSON answer that nobody stores or takes for something else."""
    answer = web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=headers)
    answer.headers[hdrs.CACHE_CONTROL] = "no-store"
    answer.headers.update(NO_SNIFFING)
    return answer


def error_answer(status: int, error: str, *, headers: Headers | None = None) -> web.Response:
    """Build a JSON answer that says what is wrong."""
    return json_answer({"error": error}, status=status, headers=headers)
