"""The part of the stand-in for Graph that is about accounts, apps and tokens: who is subscribed, and to what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from whatsapp_hub.cloud_api.accounts import MANAGEMENT, MESSAGES, MESSAGING, OBJECT
from whatsapp_hub.demo.faults import json_answer
from whatsapp_hub.demo.refused import Refused
from whatsapp_hub.demo.wire import error_body

APP_ID: Final = "670843887433847"
APP_NAME: Final = "Sample App"
_NOT_THERE: Final = "Object does not exist, or cannot be loaded due to missing permissions"


class Accounts:
    """The switches, and the routes. Unless told otherwise all is well: what is asked for is there and subscribed."""

    def __init__(self, find_token_fault: Callable[[str], Refused | None]) -> None:
        self._find_token_fault = find_token_fault
        self.numbers: Mapping[str, list[str]] | None = None  #: of each account; None: whatever was asked about before
        self.subscribed: dict[str, dict[str, str]] = {}  #: the apps of an account, with their own callback URL or ""
        self.app_secrets: Mapping[str, str] | None = None  #: the right one of each app; None: any is right
        self.fields: list[str] = [MESSAGES]
        self.callback_url = "https://hub.example/whatsapp_response"
        self.expires_at: Mapping[str, int] = {}  #: of tokens, in unix seconds; of others never
        self.scopes: Mapping[str, list[str]] = {}  #: of tokens; others have what is needed
        self._asked_about: dict[str, None] = {}

    def add_routes(self, app: web.Application) -> None:
        """Serve what is in here; before the routes of phone numbers, which take any name."""
        app.router.add_get("/{version}/debug_token", self._debug_token)
        app.router.add_get("/{version}/{account_id}/phone_numbers", self._phone_numbers)
        app.router.add_get("/{version}/{account_id}/subscribed_apps", self._subscribed_apps)
        app.router.add_post("/{version}/{account_id}/subscribed_apps", self._subscribe)
        app.router.add_get("/{version}/{app_id}/subscriptions", self._subscriptions)

    def note_number(self, phone_number_id: str) -> None:
        """Remember a number that was asked about."""
        self._asked_about[phone_number_id] = None

    async def _debug_token(self, request: web.Request) -> web.Response:
        token = request.query.get("input_token", "")
        if refused := self._find_token_fault(token):
            return _refuse(refused)
        scopes = self.scopes.get(token, [MANAGEMENT, MESSAGING, "public_profile"])
        expires_at = self.expires_at.get(token, 0)
        data = {"app_id": APP_ID, "application": APP_NAME, "type": "SYSTEM_USER", "is_valid": True}
        return _answer({"data": {**data, "expires_at": expires_at, "scopes": scopes}})

    async def _phone_numbers(self, request: web.Request) -> web.Response:
        account_id = request.match_info["account_id"]
        if refused := self._find_fault(request, account_id):
            return _refuse(refused)
        numbers = self._asked_about if self.numbers is None else self.numbers[account_id]
        return _answer({"data": [{"id": number} for number in numbers]})

    async def _subscribed_apps(self, request: web.Request) -> web.Response:
        account_id = request.match_info["account_id"]
        if refused := self._find_fault(request, account_id):
            return _refuse(refused)
        return _answer({"data": [_describe(*app) for app in self._apps_of(account_id).items()]})

    async def _subscribe(self, request: web.Request) -> web.Response:
        account_id = request.match_info["account_id"]
        if refused := self._find_fault(request, account_id):
            return _refuse(refused)
        self.subscribed[account_id] = {APP_ID: ""} | self._apps_of(account_id)
        return _answer({"success": True})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        app_id = request.match_info["app_id"]
        claimed, _, secret = _bearer(request).partition("|")
        if claimed != app_id or (self.app_secrets is not None and self.app_secrets.get(app_id) != secret):
            return _refuse(Refused(190, "Invalid OAuth access token signature."))
        fields = [{"name": name, "version": "v26.0"} for name in self.fields]
        entry = {"object": OBJECT, "callback_url": self.callback_url, "active": True, "fields": fields}
        return _answer({"data": [entry] if self.callback_url else []})

    def _find_fault(self, request: web.Request, account_id: str) -> Refused | None:
        token = _bearer(request)
        if refused := self._find_token_fault(token):
            return refused
        if MANAGEMENT not in self.scopes.get(token, [MANAGEMENT]):
            return Refused(200, "Permissions error")
        if self.numbers is not None and account_id not in self.numbers:
            return Refused(100, _NOT_THERE)
        return None

    def _apps_of(self, account_id: str) -> dict[str, str]:
        return self.subscribed.get(account_id, {APP_ID: ""})


def _describe(app_id: str, callback_url: str) -> dict[str, Any]:
    link = f"https://www.facebook.com/games/?app_id={app_id}"
    name = APP_NAME if app_id == APP_ID else "Another App"
    entry: dict[str, Any] = {"whatsapp_business_api_data": {"id": app_id, "link": link, "name": name}}
    return entry | ({"override_callback_uri": callback_url} if callback_url else {})


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def _answer(value: object) -> web.Response:
    return json_answer(orjson.dumps(value))


def _refuse(refused: Refused) -> web.Response:
    return json_answer(error_body(refused.code, str(refused)), status=refused.status)
