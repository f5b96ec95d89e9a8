"""One server that answers WhatsApp for many businesses."""

from __future__ import annotations

__version__ = "0.1.0"
