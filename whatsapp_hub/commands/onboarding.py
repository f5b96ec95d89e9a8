"""What a business goes through at Meta: its check before it is stored, its subscription, and its callback URL."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import click

from whatsapp_hub.cloud_api.account_client import AccountClient
from whatsapp_hub.cloud_api.accounts import CALLBACK_PATH, MANAGEMENT, MESSAGES, MESSAGING, Answer, Numbers, TokenFacts
from whatsapp_hub.commands.account_findings import CONFIGURATION
from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.commands.graph_checks import open_accounts
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.settings import Settings

_OFFLINE: Final = "or add it unchecked with --offline"
_WRONG_TOKEN: Final = frozenset({0, 190})
_YOUR_HOST: Final = "https://<your host>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """What Meta is asked about a business."""

    sub_domain: str
    account_id: str
    phone_number_ids: Sequence[str]
    token: str = field(repr=False)


async def check_newcomer(settings: Settings, newcomer: Newcomer) -> TokenFacts | None:
    """Return what Meta says of a business's token.

    Raises:
        Failure: Meta does not take the token, or the numbers and the account are not what the business says they are.

    """
    async with open_accounts(settings) as graph:
        if outage := (await graph.reach()).outage:
            raise Failure(
                f"Meta's Graph API cannot be reached ({outage}), so nothing was checked and nothing was written",
                f"see to the network or GRAPH_API_BASE_URL, {_OFFLINE}",
            )
        faults = [*await _find_number_faults(graph, newcomer)]
        inspected = await graph.inspect_token(newcomer.token)
        if not faults:
            faults += _find_account_faults(newcomer, await graph.find_numbers(newcomer.account_id, newcomer.token))
            faults += _find_permission_faults(inspected.facts)
    if faults:
        raise Failure("Meta does not agree, so nothing was written", f"correct this, {_OFFLINE}", faults)
    return inspected.facts


async def _find_number_faults(graph: AccountClient, newcomer: Newcomer) -> Sequence[str]:
    faults: list[str] = []
    for number in newcomer.phone_number_ids:
        answer = await graph.find_number(number, newcomer.token)
        if answer.result.code in _WRONG_TOKEN:
            return [f"the access token: {answer.result.reason}; copy it again, whole, or make a new one"]
        if answer.open:
            faults.append(f"phone number id {number}: Graph does not say ({answer.result.reason}); try again")
        elif not answer.taken:
            faults.append(
                f"phone number id {number}: {answer.result.reason}; WhatsApp > API Setup shows the right one, and the"
                " token's system user needs the account among its assets"
            )
    return faults


def _find_account_faults(newcomer: Newcomer, answer: Answer[Numbers]) -> Iterator[str]:
    account_id, numbers = newcomer.account_id, answer.facts
    if numbers is None:
        yield (
            f"account {account_id}: {answer.result.reason}; see that it is the WhatsApp Business Account ID, and that"
            f" the token has the permission {MANAGEMENT}"
        )
        return
    strange = [number for number in newcomer.phone_number_ids if number not in numbers.ids]
    if strange and numbers.complete:
        has = ", ".join(map(plain, numbers.ids)) or "none"
        yield f"account {account_id}: it has not the phone number id {', '.join(strange)}; it has {has}"


def _find_permission_faults(facts: TokenFacts | None) -> Iterator[str]:
    if facts and facts.scopes and MESSAGING not in facts.scopes:
        yield f"the access token: it lacks the permission {MESSAGING}; make one that has it"


async def subscribe(settings: Settings, newcomer: Newcomer) -> str:
    """Have the token's app get the account's webhooks; return what came of it in words.

    Raises:
        Failure: Meta refuses it, or could not be asked.

    """
    account_id = newcomer.account_id
    async with open_accounts(settings) as graph:
        facts = (await graph.inspect_token(newcomer.token)).facts
        app = facts.app if facts and facts.app_id else "the token's app"
        before = (await graph.find_subscribed_apps(account_id, newcomer.token)).facts
        if before and facts and facts.app_id in before:
            return f"{app} gets the webhooks of account {account_id} already."
        answer = await graph.subscribe(account_id, newcomer.token)
    if answer.taken:
        return f"{app} gets the webhooks of account {account_id} from now on."
    raise Failure(
        f"the account {account_id} does not let {app} have its webhooks, and no message comes: {answer.result.reason}",
        f"see that the token has the permission {MANAGEMENT}; then"
        f" `whatsapp-hub business subscribe {newcomer.sub_domain}` tries again",
    )


def public_url_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of what is printed to paste at Meta."""
    command = click.option("--show-verify-token", is_flag=True, help="Print the verify token without a terminal too.")(
        command
    )
    return click.option("--public-url", help="Where the hub is reached, https://hub.example.com, to be printed.")(
        command
    )


def print_callback(
    settings: Settings, sub_domain: str, *, own_app: bool, verify_token: str | None, public_url: str | None, show: bool
) -> None:
    """Print what is to be pasted at Meta, and where to click. ``verify_token``: the business's own."""
    path = f"{CALLBACK_PATH}/{sub_domain}" if own_app or verify_token else CALLBACK_PATH
    click.echo(f"\nTo be set once for each app, in {CONFIGURATION} > Webhook > Edit:")
    click.echo(f"  Callback URL  {(public_url or _YOUR_HOST).rstrip('/')}{path}")
    click.echo(f"  Verify token  {_describe_verify_token(settings, verify_token, show=show)}")
    click.echo(
        f"Click `Verify and save` while the hub is running; then, under Webhook fields, subscribe to {MESSAGES}."
    )


def _describe_verify_token(settings: Settings, own: str | None, *, show: bool) -> str:
    shared = settings.whatsapp_verify_token
    token = own or (shared.get_secret_value() if shared else "")
    if not token:
        return "none yet: make up a long word, set it as WHATSAPP_VERIFY_TOKEN and restart; till then Meta gets 403"
    if show or sys.stdout.isatty():
        return token
    return f"{'its own' if own else 'that of WHATSAPP_VERIFY_TOKEN'} (--show-verify-token prints it)"
