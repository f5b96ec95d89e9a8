"""The deployment guide's load test for Locust, and ours: the same users, with what Meta sends.

``make bench ARGS="--scenario locust"`` runs both. By hand, against any hub::

    locust -f bench/locustfile.py --host http://localhost:8000 --users 500 --spawn-rate 50 --run-time 5m --headless \\
        GuideUser

The guide's payload is unsigned and comes from one address: ``ALLOW_UNSIGNED_WEBHOOKS=true`` and a higher
``RATE_LIMIT_WEBHOOK``. ``FastHttpUser`` and not ``HttpUser``: on the core that is left for it Locust has to offer more.
"""

from __future__ import annotations

import itertools
import time
from typing import Final

from locust import FastHttpUser, between, task

from bench.plan import APP_SECRET
from bench.webhooks import GUIDE_NUMBER, PATH, build_body
from whatsapp_hub.cloud_api.signature import sign

CUSTOMERS: Final = 10_000
NUMBERS: Final = 50  # phone numbers of businesses
_serials: Final = itertools.count()


class GuideUser(FastHttpUser):
    """The guide's: one customer, no message id, no signature."""

    wait_time = between(0.1, 0.5)

    @task
    def send_webhook(self) -> None:
        """Send its payload."""
        message = {"from": "15551234567", "type": "text", "text": {"body": "Hello"}}
        value = {"metadata": {"phone_number_id": GUIDE_NUMBER}, "messages": [message]}
        self.client.post(PATH, json={"entry": [{"changes": [{"value": value}]}]})


class SignedUser(FastHttpUser):
    """Ours: signed, every message with an id of its own, 10,000 customers of 50 businesses."""

    wait_time = between(0.1, 0.5)

    @task
    def send_webhook(self) -> None:
        """Send the next message."""
        serial = next(_serials)
        customer = serial % CUSTOMERS
        body = build_body(serial, customer, customer % NUMBERS, now=int(time.time()))
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, APP_SECRET.encode())}
        self.client.post(PATH, data=body.decode(), headers=headers)
