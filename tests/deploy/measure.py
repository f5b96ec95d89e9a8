"""Figures of ``docs/guide.md`` and ``docs/deployment.md``: what a decryption costs, and what businesses weigh.

``python -m tests.deploy.measure``
"""

from __future__ import annotations

import gc
import timeit
import tracemalloc
from typing import Final

import click

from tests.hub import business
from whatsapp_hub.tenants.documents import read_business
from whatsapp_hub.tenants.vault import Vault

NUMBERS: Final = tuple(f"7{n:05}" for n in range(1000))
TOKEN_LENGTH: Final = 200


def measure_vault() -> None:
    """Decrypt once and from memory, and hold a thousand businesses."""
    vault = Vault("secret")
    stored = [vault.encrypt(f"{n:0{TOKEN_LENGTH}}") for n in range(len(NUMBERS))]
    cold_s = timeit.timeit(lambda: vault._read(stored[0]), number=2_000) / 2_000
    vault.decrypt(stored[0])
    cached_s = timeit.timeit(lambda: vault.decrypt(stored[0]), number=200_000) / 200_000
    click.echo(f"decryption: {cold_s * 1e6:.1f} us, from memory {cached_s * 1e6:.2f} us, {cold_s / cached_s:.0f} times")

    documents = [business(number, whatsappAccessToken=token) for number, token in zip(NUMBERS, stored, strict=True)]
    gc.collect()
    tracemalloc.start()
    fresh = Vault("secret")
    cached = [read_business(document, fresh.decrypt) for document in documents]
    gc.collect()
    click.echo(f"{len(cached)} businesses: {tracemalloc.get_traced_memory()[0] / 1e6:.1f} MB")
    tracemalloc.stop()


if __name__ == "__main__":
    measure_vault()
