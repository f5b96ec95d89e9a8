"""The deployment guide's own architecture, written by us from it: FastAPI, uvicorn, Motor, pooled httpx, slowapi.

As the guide draws it: limit per address, the phone number id out of the first message, the business from a cache of
five minutes or from MongoDB, its token decrypted through an LRU cache, the model, the send, and then 200. Pools, cache
and timeouts are the guide's, uvloop and httptools are on, nothing is logged for each request, and it gets one worker,
as everybody gets one core.

It does less than the hub: no signature, no deduplication, no order, no history, only the first message of a webhook,
and nothing is stored, so what it has taken dies with it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final

import httpx
import orjson
import uvicorn
from cryptography.fernet import Fernet
from fastapi import FastAPI, Request, Response
from slowapi import Limiter
from slowapi.util import get_remote_address

from whatsapp_hub.database import connect

CACHE_TTL_S: Final = 300
CACHE_SIZE: Final = 1000
#: The guide's limit, 100 a minute for each address, would refuse nearly all of the load: it comes from one.
LIMIT: Final = "100000000/minute"


class BusinessService:
    """Businesses from the database, cached as the guide has it: the oldest entry makes room."""

    def __init__(self, businesses: Any, secret: str) -> None:
        self._businesses = businesses
        fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()))
        self._decrypt = lru_cache(10_000)(lambda stored: fernet.decrypt(bytes.fromhex(stored)).decode())
        self._cache: dict[str, tuple[float, dict[str, Any]]] = {}

    async def find(self, phone_number_id: str) -> dict[str, Any] | None:
        """Return the business of a number with its token decrypted."""
        cached = self._cache.get(phone_number_id)
        if cached is not None and time.time() - cached[0] < CACHE_TTL_S:
            return cached[1]
        business: dict[str, Any] | None = await self._businesses.find_one(
            {"whatsappPhoneNumberIds": phone_number_id, "whatsappEnabled": True, "isActive": True}
        )
        if business is None:
            return None
        business["decryptedAccessToken"] = self._decrypt(business["whatsappAccessToken"])
        if len(self._cache) >= CACHE_SIZE:
            del self._cache[min(self._cache, key=lambda key: self._cache[key][0])]
        self._cache[phone_number_id] = (time.time(), business)
        return business


def make_app(options: dict[str, Any]) -> FastAPI:
    """Build the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = httpx.Limits(max_connections=200, max_keepalive_connections=100)
        async with (
            connect(
                options["mongodb_uri"], options["mongodb_db_name"], max_pool_size=100, min_pool_size=10
            ) as database,
            httpx.AsyncClient(timeout=30, limits=pool) as client,
        ):
            app.state.service = BusinessService(database.businesses, options["encryption_secret"])
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)
    limiter = Limiter(key_func=get_remote_address)
    app.state.limiter = limiter
    graph = f"{options['graph_api_base_url']}/{options['graph_api_version']}"

    @app.post("/whatsapp_response")
    @limiter.limit(LIMIT)
    async def whatsapp_response(request: Request) -> Response:
        data = await request.json()
        value = data["entry"][0]["changes"][0]["value"]
        if "messages" not in value:
            return Response(status_code=200)
        message, number = value["messages"][0], value["metadata"]["phone_number_id"]
        business = await request.app.state.service.find(number)
        if business is None:
            return Response(content="Business not found", status_code=404)
        client: httpx.AsyncClient = request.app.state.client
        completion = await client.post(
            f"{options['ai_base_url']}/chat/completions",
            headers={"Authorization": f"Bearer {options['ai_api_key']}"},
            json={"model": options["ai_model"], "messages": [{"role": "user", "content": message["text"]["body"]}]},
        )
        answer = completion.json()["choices"][0]["message"]["content"]
        sent = await client.post(
            f"{graph}/{number}/messages",
            headers={"Authorization": f"Bearer {business['decryptedAccessToken']}"},
            json={"messaging_product": "whatsapp", "to": message["from"], "type": "text", "text": {"body": answer}},
        )
        return Response(content="Message processed", status_code=200 if sent.status_code == 200 else 500)

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


def main() -> None:
    """Serve until SIGTERM; tell the address before the first request can come."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    options = orjson.loads(sys.stdin.buffer.readline())
    serve(make_app(options))


def serve(app: Any) -> None:
    """Run an application under uvicorn on a free port of loopback, and print its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=2048,
        timeout_keep_alive=3600,  # the guide says 5 s; connections stay open for everybody here
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
