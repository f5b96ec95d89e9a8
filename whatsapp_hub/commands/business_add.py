"""``whatsapp-hub business add``: a new tenant, its document as the other program would write it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from whatsapp_hub.commands.business_fields import (
    check_endpoint_secret,
    parse_account_id,
    parse_assistant_kind,
    parse_base_url,
    parse_endpoint_url,
    parse_expiry,
    parse_name,
    parse_phone_number_ids,
    parse_sub_domain,
    parse_temperature,
)
from whatsapp_hub.commands.business_meta import CHARGES, parse_recipient, send_hello
from whatsapp_hub.commands.database import read_settings, run_on_database
from whatsapp_hub.commands.onboarding import (
    Newcomer,
    check_newcomer,
    print_callback,
    public_url_option,
    subscribe,
)
from whatsapp_hub.commands.printing import plain
from whatsapp_hub.commands.secret_options import SecretOption, is_interactive, read_text_file
from whatsapp_hub.commands.tenants import open_vault
from whatsapp_hub.database import Database
from whatsapp_hub.settings import Settings
from whatsapp_hub.tenants.managed import BusinessDocuments, Document

TOKEN: Final = SecretOption(name="token", words="access token", needed=True, in_header=True)
APP_SECRET: Final = SecretOption(name="app-secret", words="own app secret")
VERIFY_TOKEN: Final = SecretOption(name="verify-token", words="own verify token")
API_KEY: Final = SecretOption(name="api-key", words="assistant's API key", in_header=True)
ENDPOINT_SECRET: Final = SecretOption(name="endpoint-secret", words="endpoint's secret")

#: What is asked for where an option is missing: how it is called, how it is read, and the field of the document.
_NEEDED: Final[Mapping[str, tuple[str, Callable[[str], object], str]]] = {
    "name": ("Name of the business", parse_name, "name"),
    "sub_domain": ("Subdomain (short name, as in /whatsapp_response/bakery)", parse_sub_domain, "subDomain"),
    "waba_id": ("Id of its WhatsApp Business Account", parse_account_id, "wabaId"),
    "phone_number_id": (
        "Phone number ids (not the numbers; with commas between)",
        parse_phone_number_ids,
        "whatsappPhoneNumberIds",
    ),
}


@click.command(
    "add",
    epilog="Example: whatsapp-hub business add --name 'The Bakery' --sub-domain bakery --waba-id 102290129340398"
    " --phone-number-id 106540352242922 --token-file token.txt",
)
@click.option("--name", help="Its name.")
@click.option("--sub-domain", "--subdomain", "sub_domain", help="Its short name, unique: bakery.")
@click.option("--waba-id", help="Id of its WhatsApp Business Account.")
@click.option("--phone-number-id", multiple=True, help="Id of one of its phone numbers; may be repeated.")
@click.option("--expires", metavar="DATE", help="When its access token expires, as 2027-01-31.")
@TOKEN.add_to
@APP_SECRET.add_to
@VERIFY_TOKEN.add_to
@API_KEY.add_to
@ENDPOINT_SECRET.add_to
@click.option("--assistant", help="echo, openai, http, none or a name of ASSISTANTS, instead of ASSISTANT.")
@click.option("--model", help="The model of its assistant, instead of AI_MODEL.")
@click.option("--base-url", help="The model's server, https, instead of AI_BASE_URL (whose key it then never gets).")
@click.option("--endpoint-url", help="Its own endpoint, https, for the assistant http.")
@click.option("--instructions", help="What its assistant is told, instead of AI_INSTRUCTIONS.")
@click.option("--instructions-file", type=click.Path(path_type=Path), help="Read the instructions from this file.")
@click.option("--fallback-text", help="What customers get when its assistant fails for good.")
@click.option("--temperature", help="The model's temperature, 0 to 2.")
@click.option("--disabled", is_flag=True, help="Add it switched off; `enable` switches it on.")
@click.option("--offline", is_flag=True, help="Ask nothing of Meta: add it unchecked and unsubscribed.")
@click.option(
    "--subscribe/--no-subscribe",
    "subscribe_app",
    default=None,
    help="Whether Meta shall send the webhooks of its account to its app.  [default: asks; without a terminal: yes]",
)
@click.option("--test-to", metavar="NUMBER", help="Send Meta's template hello_world to this phone number, as a test.")
@public_url_option
def add(**options: Any) -> None:
    """Add a business: asks for what no option says, checks it with Meta, and subscribes its app.

    Secrets come from a prompt, from stdin or from a file. The access token is the one secret that has to be given; a
    business without an app secret or a verify token of its own uses the environment's. Nothing is written unless Meta
    takes the token for every number, and no other business that is switched on has one of them. Where no --expires is
    given, Meta's word on the token's expiry is stored. Then it prints what is to be pasted at Meta, and sends a test
    message if one is wanted.

    Exit status: 0 all done, 1 something went wrong, and whether it is stored is said, 2 wrong usage.
    """
    if options["test_to"]:
        options["test_to"] = parse_recipient(options["test_to"])
    settings = read_settings(tenants=True)
    run_on_database(settings, Database.hello)  # nobody shall answer questions for a database that is down
    if is_interactive():
        _ask_for_missing(options)
    document = _Form(options, settings).read()
    run_on_database(settings, lambda database: BusinessDocuments(database).refuse_taken(document))
    newcomer = _newcomer(document, settings)
    if not options["offline"]:
        facts = asyncio.run(check_newcomer(settings, newcomer))
        click.echo("Meta takes its access token, for every number of it.")
        if facts and facts.expires_at:
            document.setdefault("whatsappTokenExpiresAt", facts.expires_at)
    run_on_database(settings, lambda database: BusinessDocuments(database).add(document))
    click.echo(f"{newcomer.sub_domain} is added, switched {'off' if options['disabled'] else 'on'}.")
    _go_on(settings, newcomer, document, options)


def _go_on(settings: Settings, newcomer: Newcomer, document: Document, options: Mapping[str, Any]) -> None:
    """Do what follows once a business is stored. Raises ``Failure``."""
    wanted = not options["offline"]
    if wanted and options["subscribe_app"] is None and is_interactive():
        words = f"Shall Meta send the webhooks of account {newcomer.account_id} to its app?"
        wanted = click.confirm(words, default=True, err=True)
    elif options["subscribe_app"] is not None:
        wanted = options["subscribe_app"]
    if wanted:
        click.echo(plain(asyncio.run(subscribe(settings, newcomer))))
    else:
        click.echo(f"Not subscribed: `whatsapp-hub business subscribe {newcomer.sub_domain}` does it later.")
    decrypt = open_vault(settings).decrypt
    stored = document.get("whatsappVerifyToken")
    print_callback(
        settings,
        newcomer.sub_domain,
        own_app="whatsappAppSecret" in document,
        verify_token=decrypt(stored) if stored else None,
        public_url=options["public_url"],
        show=options["show_verify_token"],
    )
    customer = options["test_to"]
    if customer is None and is_interactive() and not options["offline"]:
        words = f"\n{CHARGES}\nSend a test message to which phone number (empty: none)"
        customer = click.prompt(words, default="", show_default=False, err=True, value_proc=_read_recipient)
    if customer:
        send_hello(settings, newcomer, customer)


def _read_recipient(text: str) -> str:
    return parse_recipient(text) if text.strip() else ""


def _newcomer(document: Document, settings: Settings) -> Newcomer:
    return Newcomer(
        sub_domain=document["subDomain"],
        account_id=document["wabaId"],
        phone_number_ids=document["whatsappPhoneNumberIds"],
        token=open_vault(settings).decrypt(document["whatsappAccessToken"]),
    )


def _ask_for_missing(options: dict[str, Any]) -> None:
    for option, (words, parse, _) in _NEEDED.items():
        if not options[option]:
            # Asked again until it can be used; read again with everything else.
            options[option] = click.prompt(words, value_proc=_keeping_text(parse), err=True)


def _keeping_text(parse: Callable[[str], object]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as exc:
            raise click.UsageError(str(exc)) from None
        return text

    return check


class _Form:
    """What the options say, read into a document; notes every fault before it gives up."""

    def __init__(self, options: Mapping[str, Any], settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._encrypt = open_vault(settings).encrypt
        self._faults: list[str] = []

    def read(self) -> dict[str, Any]:
        """Return the document. Raises ``UsageError`` with every fault."""
        document = self._needed_fields()
        document |= self._secret("whatsappAccessToken", TOKEN)
        document |= self._secret("whatsappAppSecret", APP_SECRET)
        document |= self._secret("whatsappVerifyToken", VERIFY_TOKEN)
        with self._noting():
            expires_at = parse_expiry(self._options["expires"])
            document |= {"whatsappTokenExpiresAt": expires_at} if expires_at else {}
        if assistant := self._assistant():
            document["assistant"] = assistant
        if self._faults:
            raise click.UsageError("\n  ".join(["this business cannot be added:", *self._faults]))
        switches = {"whatsappEnabled": not self._options["disabled"], "isActive": True}
        return document | switches | {"createdAt": datetime.now(UTC)}

    def _needed_fields(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for option, (_, parse, field) in _NEEDED.items():
            given = self._options[option]
            with self._noting():
                if not given:
                    raise ValueError(f"--{option.replace('_', '-')} is missing")
                found[field] = parse(given if isinstance(given, str) else ",".join(given))
        return found

    def _secret(self, field: str, secret: SecretOption) -> dict[str, object]:
        found: dict[str, object] = {}
        with self._noting():
            plain = secret.read(self._options)
            found |= {} if plain is None else {field: self._encrypt(plain)}
        return found

    def _assistant(self) -> dict[str, object]:
        """Return what the business says of its assistant; empty where the environment's is meant, as it is."""
        options, found = self._options, dict[str, object]()
        with self._noting():
            found |= _given("kind", parse_assistant_kind(options["assistant"], self._settings, options["model"]))
        found |= _given("model", options["model"])
        with self._noting():
            found |= _given("baseUrl", parse_base_url(options["base_url"], self._settings))
        found |= self._secret("apiKey", API_KEY)
        with self._noting():
            found |= self._endpoint()
        with self._noting():
            found |= _given("instructions", self._instructions())
        found |= _given("fallbackText", options["fallback_text"])
        with self._noting():
            found |= _given("temperature", parse_temperature(options["temperature"]))
        return found

    def _endpoint(self) -> dict[str, object]:
        options = self._options
        url = parse_endpoint_url(options["endpoint_url"], self._settings, options["assistant"])
        secret = ENDPOINT_SECRET.read(options)
        check_endpoint_secret(secret, url)
        return _given("endpointUrl", url) | ({} if secret is None else {"secret": self._encrypt(secret)})

    def _instructions(self) -> str | None:
        text: str | None = self._options["instructions"]
        path: Path | None = self._options["instructions_file"]
        if text and path:
            raise ValueError("--instructions and --instructions-file are two ways to say the same: use one")
        return read_text_file(path).strip() if path else text

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except ValueError as exc:
            self._faults.append(str(exc))


def _given(field: str, value: object) -> dict[str, object]:
    return {} if value is None or value == "" else {field: value}
