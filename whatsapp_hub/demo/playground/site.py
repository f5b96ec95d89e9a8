"""The page over HTTP: on loopback, for this machine's browser, and for no other site that it has open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from whatsapp_hub.database import DatabaseError
from whatsapp_hub.demo.playground.picture import draw_sunset
from whatsapp_hub.demo.playground.playground import Playground
from whatsapp_hub.demo.playground.switches import Graph, Kill
from whatsapp_hub.errors import StoreUnavailable

MAX_BODY_BYTES: Final = 32 * 1024
KEEP_ALIVE_S: Final = 15.0
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-store",
}
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Action = Callable[[Playground, Mapping[str, Any]], Awaitable[None]]


@asynccontextmanager
async def open_site(playground: Playground) -> AsyncIterator[None]:
    """Serve the page until the context ends."""
    runner = web.AppRunner(make_app(playground), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, playground.listener).start()
        yield
    finally:
        await runner.cleanup()


def make_app(playground: Playground) -> web.Application:
    """Build the application."""
    port = playground.listener.getsockname()[1]
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_guard(port)])
    site = _Site(playground)
    app.router.add_get("/", site.page)
    app.router.add_get("/assets/{name}", site.asset)
    app.router.add_get("/picture.png", site.picture)
    app.router.add_get("/events", site.events)
    app.router.add_post("/actions/{name}", site.act)
    return app


def _guard(port: int) -> Any:
    """Refuse what another site's page has the browser ask, by its own name for this address or across origins."""
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
    origins = {f"http://{host}" for host in hosts}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if request.headers.get(hdrs.HOST) not in hosts or (origin is not None and origin not in origins):
            return _refuse(403, "this page is for this machine's own browser: open it by the address that was printed")
        if request.method == hdrs.METH_POST and request.content_type != "application/json":
            return _refuse(415, "what is posted has to be JSON")
        answer = await handler(request)
        if not answer.prepared:
            answer.headers.update(_HEADERS)
        return answer

    return guard


class _Site:
    """The handlers."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        folder = files("whatsapp_hub.demo.playground") / "page"
        self._files = {
            file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES
        }

    async def page(self, _: web.Request) -> web.Response:
        """Answer with the page."""
        return self._file("index.html")

    async def asset(self, request: web.Request) -> web.Response:
        """Answer with a part of the page."""
        return self._file(request.match_info["name"])

    async def picture(self, _: web.Request) -> web.Response:
        """Answer with the picture that customers send."""
        return web.Response(body=draw_sunset(), content_type="image/png")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Tell what happens, as it happens."""
        response = web.StreamResponse(headers={**_HEADERS, hdrs.CONTENT_TYPE: "text/event-stream"})
        await response.prepare(request)
        with self._playground.board.look_on() as updates, suppress(ConnectionResetError):  # the page was left
            while update := await updates.get():
                await response.write(b"data: " + update + b"\n\n")
        return response

    async def act(self, request: web.Request) -> web.Response:
        """Do what a button of the page says."""
        action = _ACTIONS.get(request.match_info["name"])
        if action is None:
            return _refuse(404, "there is no such action")
        try:
            wanted = orjson.loads(await request.read())
            await action(self._playground, wanted if isinstance(wanted, dict) else {})
        except KeyError as error:
            return _refuse(400, f"{error} is missing")
        except (ValueError, TypeError) as error:
            return _refuse(400, str(error))
        except (StoreUnavailable, DatabaseError):
            return _refuse(503, "the database does not answer; try again in a moment")
        return web.json_response({})

    def _file(self, name: str) -> web.Response:
        if name not in self._files:
            return _refuse(404, "there is nothing here")
        return web.Response(body=self._files[name], content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8")


def _refuse(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status, headers=_HEADERS)


async def _say(playground: Playground, wanted: Mapping[str, Any]) -> None:
    chat, text, forged = str(wanted["chat"]), str(wanted["text"]), wanted.get("forged") is True
    playground.customers.say(chat, text, forged=forged)


async def _five(playground: Playground, wanted: Mapping[str, Any]) -> None:
    for text in _FIVE:
        playground.customers.say(str(wanted["chat"]), text)


async def _press(playground: Playground, wanted: Mapping[str, Any]) -> None:
    chat, name, title, reply_to = (str(wanted[key])[:256] for key in ("chat", "name", "title", "replyTo"))
    playground.customers.press(chat, name, title, reply_to)


async def _picture(playground: Playground, wanted: Mapping[str, Any]) -> None:
    playground.customers.show(str(wanted["chat"]))


async def _voice(playground: Playground, wanted: Mapping[str, Any]) -> None:
    playground.customers.speak(str(wanted["chat"]))


async def _graph(playground: Playground, wanted: Mapping[str, Any]) -> None:
    await playground.set_graph(Graph(wanted["to"]))


async def _slow(playground: Playground, wanted: Mapping[str, Any]) -> None:
    playground.switches.set_slow(slow=wanted["on"] is True)


async def _kill(playground: Playground, wanted: Mapping[str, Any]) -> None:
    playground.kill(Kill(wanted["when"]))


async def _burst(playground: Playground, wanted: Mapping[str, Any]) -> None:
    playground.customers.flood()
    if wanted.get("kill") is True:
        playground.kill(Kill.AMONG_MANY)


async def _pause_database(playground: Playground, _: Mapping[str, Any]) -> None:
    playground.pause_database()


async def _retry(playground: Playground, wanted: Mapping[str, Any]) -> None:
    if not await playground.retry(str(wanted["id"])):
        raise ValueError("this message is no dead letter any more")


_FIVE: Final = ("One more thing", "or two", "wait, three", "I write very fast", "and now I am done")
_ACTIONS: Final[Mapping[str, Action]] = {
    "say": _say,
    "five": _five,
    "press": _press,
    "picture": _picture,
    "voice": _voice,
    "graph": _graph,
    "slow": _slow,
    "kill": _kill,
    "burst": _burst,
    "pause-database": _pause_database,
    "retry": _retry,
}
