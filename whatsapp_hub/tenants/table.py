"""What requests are checked against, in memory (pure): subdomains, secrets, API keys, numbers and whose they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from whatsapp_hub.tenants.api_keys import ApiKey, KeyTable
from whatsapp_hub.tenants.business import ApiTenant, WebhookKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One business as far as its webhooks go."""

    id: str
    sub_domain: str | None
    account_id: str | None
    phone_number_ids: tuple[str, ...]
    enabled: bool
    app_secrets: tuple[bytes, ...] | None = field(repr=False)  #: None: has none of its own; empty: cannot be read
    verify_tokens: tuple[str, ...] | None = field(repr=False)  #: likewise
    token_expires_at: datetime | None = None
    faults: tuple[str, ...] = ()
    max_pending: int | None = None  #: messages that may wait; None: any number
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a change of rows was about."""

    phone_number_ids: frozenset[str]
    sub_domains: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """A phone number that several switched-on businesses claim."""

    phone_number_id: str
    sub_domains: tuple[str, ...]
    kept_by: str | None  #: the subdomain of the one that is served; None: all are held


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the documents that the operator has to mend."""

    business: str  #: its subdomain, or several
    reason: str


class Table:
    """The rows, and what follows from them for each webhook path.

    A switched-off business keeps its keys: its webhooks have to verify so that they are stored and put aside. Refused,
    they would come again for days, and all at once when it is switched on.
    """

    def __init__(self, *, app_secrets: tuple[bytes, ...], verify_token: str | None, nobodys_secret: bytes) -> None:
        """Start empty.

        Args:
            app_secrets: what counts on the shared path, and for businesses without a secret of their own.
            verify_token: likewise for the handshake.
            nobodys_secret: random bytes. Where a business's own secret cannot be read nothing may verify, and that must
                not look like "no secret is set", which an unsigned hub would let pass.

        """
        self._app_secrets = app_secrets
        self._verify_token = verify_token
        self._nobodys_secret = nobodys_secret
        self._rows: dict[str, Row] = {}
        self._by_number: defaultdict[str, set[str]] = defaultdict(set)
        self._by_sub_domain: defaultdict[str, set[str]] = defaultdict(set)
        self._keepers: dict[str, str | None] = {}
        self._faulty: set[str] = set()
        self._shared_sub_domains: set[str] = set()
        self._shared_keys = WebhookKeys(app_secrets=app_secrets, verify_token=verify_token)
        self._keys: dict[str, WebhookKeys] = {}
        self._names: dict[str, str | None] = {}  # by number, of those that were asked for since the last change
        self._api_keys = KeyTable()

    def __len__(self) -> int:
        return len(self._rows)

    def size(self) -> tuple[int, int]:
        """Return how many businesses there are, and how many of them are switched on."""
        return len(self._rows), sum(row.enabled for row in self._rows.values())

    def keys(self, sub_domain: str | None) -> WebhookKeys | None:
        """Return what counts on a webhook path; None for a subdomain that nobody, or more than one business, has."""
        if sub_domain is None:
            return self._shared_keys
        found = self._keys.get(sub_domain)
        if found is None and (row := self._row_of(sub_domain)) is not None:
            found = self._keys[sub_domain] = self._build_keys(row)
        return found

    def api_tenant(self, key: str) -> ApiTenant | None:
        """Return the business that has this API key; None for a wrong one, which takes as long to find out."""
        found = self._api_keys.find(key)
        if found is None:
            return None
        row = self._rows[found[0]]
        has_path = row.sub_domain is not None and self._row_of(row.sub_domain) is row
        return ApiTenant(
            id=row.id,
            sub_domain=row.sub_domain if has_path else None,
            enabled=row.enabled,
            phone_number_ids=row.phone_number_ids,
            own_phone_number_ids=tuple(number for number in row.phone_number_ids if self.owner(number) == row.id),
            key_id=found[1],
        )

    def replace(self, rows: Iterable[Row]) -> Touched:
        """Take these rows for the whole truth; return what differs."""
        fresh = {row.id: row for row in rows}
        return self.update(
            (row for row in fresh.values() if self._rows.get(row.id) != row),
            removed=[identity for identity in self._rows if identity not in fresh],
        )

    def update(self, rows: Iterable[Row], *, removed: Iterable[str] = ()) -> Touched:
        """Put rows in the place of those with the same id, and take others away."""
        new = tuple(rows)
        gone = [self._rows[identity] for identity in (*removed, *(row.id for row in new)) if identity in self._rows]
        touched = Touched(
            phone_number_ids=frozenset(number for row in (*gone, *new) for number in row.phone_number_ids),
            sub_domains=frozenset(row.sub_domain for row in (*gone, *new) if row.sub_domain is not None),
        )
        owners = {number: self.owner(number) for number in touched.phone_number_ids}
        for row in gone:
            self._take_out(row)
        for row in new:
            self._put_in(row)
        self._settle(touched, owners)
        return touched

    def claimants(self, phone_number_id: str) -> list[str]:
        """Return the ids of the switched-on businesses that have this number."""
        ids = self._by_number.get(phone_number_id, ())
        return sorted(identity for identity in ids if self._rows[identity].enabled)

    def owner(self, phone_number_id: str) -> str | None:
        """Return the id of the one business that this number is served for; None where there is no such one."""
        claimants = self.claimants(phone_number_id)
        return claimants[0] if len(claimants) == 1 else self._keepers.get(phone_number_id)

    def sub_domain_of(self, phone_number_id: str) -> str | None:
        """Name the business that a number is served for or, where that is none, the first that has it."""
        if phone_number_id in self._names:
            return self._names[phone_number_id]
        identity = self.owner(phone_number_id) or next(iter(sorted(self._by_number.get(phone_number_id, ()))), None)
        if identity is None:
            return None  # and nothing is kept of it: anybody may write a number
        name = self._names[phone_number_id] = self._rows[identity].sub_domain
        return name

    def set_keeper(self, phone_number_id: str, business_id: str | None) -> None:
        """Say which claimant of a contested number keeps it; does nothing where that is not contested (any more)."""
        if phone_number_id in self._keepers:
            self._keepers[phone_number_id] = business_id
            self._forget({phone_number_id}, ())

    def token_expiries(self) -> dict[str, datetime]:
        """Return when the access tokens of the switched-on businesses expire, by subdomain, where that is known."""
        return {
            self._name(row.id): row.token_expires_at
            for row in self._rows.values()
            if row.enabled and row.token_expires_at is not None
        }

    def pending_limits(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Return subdomain, numbers and limit of the businesses that limit how many messages wait."""
        return [
            (self._name(row.id), tuple(number for number in row.phone_number_ids if self.owner(number) == row.id), most)
            for row in self._rows.values()
            if (most := row.max_pending) is not None
        ]

    def contests(self) -> list[Contest]:
        """Return the contested numbers."""
        return [
            Contest(
                phone_number_id=number,
                sub_domains=tuple(sorted(self._name(identity) for identity in self.claimants(number))),
                kept_by=None if keeper is None else self._name(keeper),
            )
            for number, keeper in sorted(self._keepers.items())
        ]

    def problems(self) -> frozenset[Problem]:
        """Return everything in the rows that the operator has to mend."""
        return frozenset(
            (
                *(
                    Problem(business=self._name(i), reason=fault)
                    for i in self._faulty
                    for fault in self._rows[i].faults
                ),
                *map(_describe, self.contests()),
                *(
                    Problem(business=sub_domain, reason="several businesses have this subdomain: its path is closed")
                    for sub_domain in self._shared_sub_domains
                ),
            )
        )

    def _row_of(self, sub_domain: str) -> Row | None:
        rows = [self._rows[identity] for identity in self._by_sub_domain.get(sub_domain, ())]
        wanted = [row for row in rows if row.enabled] or rows
        return wanted[0] if len(wanted) == 1 else None

    def _build_keys(self, row: Row) -> WebhookKeys:
        token = self._verify_token if row.verify_tokens is None else next(iter(row.verify_tokens), None)
        if row.app_secrets is None:
            return WebhookKeys(app_secrets=self._app_secrets, verify_token=token, sub_domain=row.sub_domain)
        # What another business is served with is not this one's to sign for, whatever its document says.
        own = frozenset(number for number in row.phone_number_ids if self.owner(number) in {None, row.id})
        return WebhookKeys(
            app_secrets=row.app_secrets or (self._nobodys_secret,),
            verify_token=token,
            only_phone_number_ids=own,
            only_account_id=row.account_id,
            sub_domain=row.sub_domain,
        )

    def _put_in(self, row: Row) -> None:
        self._rows[row.id] = row
        self._api_keys.add(row.id, row.api_keys)
        for number in row.phone_number_ids:
            self._by_number[number].add(row.id)
        if row.sub_domain is not None:
            self._by_sub_domain[row.sub_domain].add(row.id)
        if row.faults:
            self._faulty.add(row.id)

    def _take_out(self, row: Row) -> None:
        self._rows.pop(row.id, None)
        self._api_keys.remove(row.id, row.api_keys)
        self._faulty.discard(row.id)
        for number in row.phone_number_ids:
            _discard(self._by_number, number, row.id)
        if row.sub_domain is not None:
            _discard(self._by_sub_domain, row.sub_domain, row.id)

    def _settle(self, touched: Touched, owners: Mapping[str, str | None]) -> None:
        for number in touched.phone_number_ids:
            claimants = self.claimants(number)
            if len(claimants) > 1:
                # Whoever had it alone keeps it until the database has said who was served last.
                self._keepers[number] = owners[number] if owners[number] in claimants else None
            else:
                self._keepers.pop(number, None)
        for sub_domain in touched.sub_domains:
            is_shared = sub_domain in self._by_sub_domain and self._row_of(sub_domain) is None
            (self._shared_sub_domains.add if is_shared else self._shared_sub_domains.discard)(sub_domain)
        self._forget(touched.phone_number_ids, touched.sub_domains)

    def _forget(self, phone_number_ids: Iterable[str], sub_domains: Iterable[str]) -> None:
        """Forget what was worked out from these."""
        self._names.clear()
        for sub_domain in sub_domains:
            self._keys.pop(sub_domain, None)
        for number in phone_number_ids:
            for identity in self._by_number.get(number, ()):
                self._keys.pop(self._rows[identity].sub_domain or "", None)

    def _name(self, identity: str) -> str:
        return self._rows[identity].sub_domain or identity


def _discard(index: defaultdict[str, set[str]], key: str, identity: str) -> None:
    index[key].discard(identity)
    if not index[key]:
        del index[key]


def _describe(contest: Contest) -> Problem:
    names = ", ".join(contest.sub_domains)
    outcome = (
        f"{contest.kept_by}, served last, keeps it" if contest.kept_by else "none was ever served, so all are held"
    )
    return Problem(
        business=names,
        reason=f"phone number id {contest.phone_number_id} is claimed by several businesses ({names}): {outcome}",
    )
