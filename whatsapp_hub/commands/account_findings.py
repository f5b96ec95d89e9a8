"""What Graph's answers about a token, an account and an app mean for a business, as findings (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from whatsapp_hub.cloud_api.accounts import (
    MANAGEMENT,
    MESSAGES,
    MESSAGING,
    Answer,
    Numbers,
    Subscription,
    TokenFacts,
    leads_to_hub,
)
from whatsapp_hub.commands.findings import Finding, mend, note
from whatsapp_hub.tenants.business import Business

EXPIRES_SOON: Final = timedelta(days=7)
CONFIGURATION: Final = "your app at developers.facebook.com > WhatsApp > Configuration"


def judge_token(business: Business, facts: TokenFacts, now: datetime) -> Iterator[Finding]:
    """Look at a token's permissions, and at an expiry that the document does not tell."""
    name = business.sub_domain
    if facts.scopes and MESSAGING not in facts.scopes:
        remedy = f"make one with {MESSAGING} and {MANAGEMENT} at Meta, then `whatsapp-hub business set-token {name}`"
        yield mend("token", f"{name}: its access token lacks the permission {MESSAGING}", remedy)
    if business.token_expires_at is None and facts.expires_at and facts.expires_at - now <= EXPIRES_SOON:
        remedy = f"make a new one at Meta, then `whatsapp-hub business set-token {name}`"
        yield mend("token", f"{name}: Meta says that its access token expires on {facts.expires_at:%Y-%m-%d}", remedy)


def judge_numbers(business: Business, answer: Answer[Numbers]) -> Iterator[Finding]:
    """Look whether a business's numbers belong to its account."""
    numbers = answer.facts
    if numbers is None or not numbers.complete:
        return
    for number in business.phone_number_ids:
        if number not in numbers.ids:
            words = f"{business.sub_domain}: {number} is no number of its account {business.account_id}"
            yield mend("account", words, "correct wabaId or whatsappPhoneNumberIds in its document")


def judge_apps(
    business: Business, facts: TokenFacts | None, answer: Answer[Mapping[str, str]]
) -> tuple[list[Finding], bool]:
    """Look which apps get an account's webhooks; say also whether the token's own app is one of them."""
    name, account = business.sub_domain, business.account_id
    if answer.facts is None:
        words = f"{name}: Graph does not show who gets the webhooks of its account {account}: {answer.result.reason}"
        return [note("webhooks", words, f"a token with the permission {MANAGEMENT} may see it; or look at Meta")], False
    remedy = f"`whatsapp-hub business subscribe {name}`"
    if not answer.facts:
        return [mend("webhooks", f"{name}: no app gets the webhooks of its account {account}", remedy)], False
    if facts is None or facts.app_id is None:
        return [], False
    if facts.app_id not in answer.facts:
        words = f"{name}: other apps get the webhooks of its account {account}, {facts.app} does not"
        return [note("webhooks", words, f"{remedy}, unless that is meant")], False
    own_url = answer.facts[facts.app_id]
    if own_url and not leads_to_hub(own_url):
        return [_elsewhere(f"{name}: the webhooks of its account {account}", own_url)], True
    return [], True


def judge_app_secret(app: str, owner: str | None) -> Finding:
    """Say that no known secret is an app's; ``owner``: the business that has a secret of its own."""
    whose = f"the app secret of {owner}'s own" if owner else "WHATSAPP_APP_SECRET"
    remedy = f"copy it from the app's Settings > Basic > App secret into {'its document' if owner else whose}"
    return mend("app secret", f"{whose} is not the secret of {app}: its webhooks are answered with 401", remedy)


def judge_subscription(app: str, found: Subscription | None) -> Iterator[Finding]:
    """Look where an app's webhooks go, and which they are."""
    if found is None or not found.active:
        words = f"{app} has no webhooks for WhatsApp{' that are switched on' if found else ''}"
        remedy = f"in {CONFIGURATION}: callback URL and verify token, Verify and save, then subscribe to {MESSAGES}"
        yield mend("webhook fields", words, remedy)
        return
    if MESSAGES not in found.fields:
        remedy = f"in {CONFIGURATION} > Webhook fields, subscribe to {MESSAGES}"
        yield mend("webhook fields", f"{app} is not subscribed to the field {MESSAGES}: no message comes", remedy)
    if not leads_to_hub(found.callback_url):
        yield _elsewhere(f"the webhooks of {app}", found.callback_url)


def _elsewhere(what: str, url: str) -> Finding:
    remedy = "correct the callback URL, unless a proxy of yours passes that path on as /whatsapp_response"
    return note("webhooks", f"{what} go to {url}, which is no path of the hub", remedy)
