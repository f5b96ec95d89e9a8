"""``whatsapp-hub business subscribe`` and ``business test``: what changes something at Meta."""

from __future__ import annotations

import asyncio
from typing import Final

import click

from whatsapp_hub.cloud_api.client import GraphClient, open_session
from whatsapp_hub.cloud_api.errors import SendResult, Verdict
from whatsapp_hub.cloud_api.outgoing import build_send, text_part
from whatsapp_hub.cloud_api.parts import build_template
from whatsapp_hub.cloud_api.replies import Template
from whatsapp_hub.commands.completion import SUB_DOMAIN
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.failures import Failure
from whatsapp_hub.commands.graph_checks import Subject, read_subject
from whatsapp_hub.commands.onboarding import Newcomer, print_callback, public_url_option, subscribe
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.inbox.erasable import read_customer
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.metrics import Metrics
from whatsapp_hub.tenants.documents import read_row
from whatsapp_hub.tenants.managed import BusinessDocuments, Document

HELLO: Final = "hello_world"
HELLO_LANGUAGE: Final = "en_US"
CHARGES: Final = (
    "Meta charges the business for templates, but not for those of its test numbers; a text costs nothing and reaches"
    " only who has written to the number within 24 hours."
)
_HELP: Final = {
    131030: "add the recipient to the list of the test number, in WhatsApp > API Setup > To",
    131047: "write to the number from your phone first, then try again with --text",
    131058: "it is no test number: write to it from your phone, then `business test --text`, or use --template",
    132001: "name an approved template of its account with --template and --language",
    133010: "register the number first, in WhatsApp > API Setup or WhatsApp Manager",
}


@click.command(
    "subscribe", epilog="Example: whatsapp-hub business subscribe bakery --public-url https://hub.example.com"
)
@SUB_DOMAIN
@public_url_option
def subscribe_business(*, sub_domain: str, public_url: str | None, show_verify_token: bool) -> None:
    """Have Meta send the webhooks of a business's account to its app, and print what to paste at Meta.

    Does no harm twice. The app is the one that the business's access token belongs to.
    """
    settings = read_settings(tenants=True)
    document, subject = _find(settings, sub_domain)
    click.echo(plain(asyncio.run(subscribe(settings, _newcomer(subject)))))
    verify_tokens = read_row(document, open_vault(settings).decrypt).verify_tokens
    print_callback(
        settings,
        sub_domain,
        own_app=subject.own_secret,
        verify_token=next(iter(verify_tokens or ()), None),
        public_url=public_url,
        show=show_verify_token,
    )


@click.command("test", epilog="Example: whatsapp-hub business test bakery --to 15550100142 --text 'Hello from the hub'")
@SUB_DOMAIN
@click.option("--to", "customer", metavar="NUMBER", prompt="To which phone number", help="Who gets it: your own phone.")
@click.option("--text", help="Send this text instead of a template.")
@click.option("--template", "template", default=HELLO, show_default=True, help="Send this approved template.")
@click.option("--language", default=HELLO_LANGUAGE, show_default=True, help="The template's language.")
@click.option("--phone-number-id", help="From this one of its numbers; else from the first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def test_business(
    *,
    sub_domain: str,
    customer: str,
    text: str | None,
    template: str,
    language: str,
    phone_number_id: str | None,
    yes: bool,
) -> None:
    """Send one message to your own phone with a business's token, past the hub's inbox.

    Meta charges the business for templates, but not for those of its test numbers; a text costs nothing and reaches
    only who has written to the number within 24 hours. hello_world goes out from Meta's test numbers only.
    """
    recipient = parse_recipient(customer)
    settings = read_settings(tenants=True)
    _, subject = _find(settings, sub_domain)
    numbers = subject.business.phone_number_ids
    if phone_number_id is not None and phone_number_id not in numbers:
        raise click.UsageError(f"--phone-number-id: not one of its numbers; write one of {', '.join(numbers)}.")
    if not yes:
        click.confirm(f"{CHARGES}\nSend it now?", default=True, abort=True, err=True)
    part = text_part(text) if text else build_template(Template(name=template, language=language))
    send_test(settings, _newcomer(subject), phone_number_id or numbers[0], recipient, part)


def send_hello(settings: Settings, newcomer: Newcomer, customer: str) -> None:
    """Send Meta's template for tests. Raises ``Failure``."""
    part = build_template(Template(name=HELLO, language=HELLO_LANGUAGE))
    send_test(settings, newcomer, newcomer.phone_number_ids[0], customer, part)


def parse_recipient(text: str) -> str:
    """Read a phone number. Raises ``UsageError``."""
    number = read_customer(text)
    if not (number.isascii() and number.isdigit()):
        raise click.UsageError("--to: not a phone number; write it with its country code, 15550100142.")
    return number


def send_test(settings: Settings, newcomer: Newcomer, number: str, customer: str, part: bytes) -> None:
    """Send one message and say what Meta made of it. Raises ``Failure``."""
    result = asyncio.run(_send(settings, number, newcomer.token, build_send(part, customer=customer, callback_data="")))
    if result.verdict is not Verdict.SENT:
        remedy = _HELP.get(result.code or 0, f"`whatsapp-hub business check {newcomer.sub_domain}` looks closer")
        raise Failure(f"the test message was not taken: {result.reason}", remedy)
    click.echo("Meta has taken the test message; it should be on the phone within seconds. Answer it, and the hub")
    click.echo(f"answers you: then all of {plain(newcomer.sub_domain)} works.")


async def _send(settings: Settings, number: str, token: str, body: bytes) -> SendResult:
    async with open_session(max_connections=1) as session:
        graph = GraphClient(
            session,
            base_url=settings.graph_api_base_url,
            version=settings.graph_api_version,
            metrics=Metrics(),
            max_connections=1,
        )
        return await graph.send(phone_number_id=number, token=token, body=body, may_send=lambda: True)


def _find(settings: Settings, sub_domain: str) -> tuple[Document, Subject]:
    document = run_on_database(settings, lambda database: BusinessDocuments(database).get(sub_domain))
    subject = read_subject(document, open_vault(settings).decrypt, settings)
    business = subject.business
    missing = [
        *([] if business.access_token else [("an access token", "`whatsapp-hub business set-token` stores one")]),
        *([] if business.phone_number_ids else [("a phone number id", "write it into whatsappPhoneNumberIds")]),
        *([] if business.account_id else [("an account", "write its id into wabaId")]),
    ]
    if missing:
        lacks, remedies = zip(*missing, strict=True)
        raise Failure(f"{business.sub_domain!r} lacks {' and '.join(lacks)}", "; ".join(remedies))
    return document, subject


def _newcomer(subject: Subject) -> Newcomer:
    business = subject.business
    return Newcomer(
        sub_domain=business.sub_domain,
        account_id=business.account_id or "",
        phone_number_ids=business.phone_number_ids,
        token=subject.token,
    )
