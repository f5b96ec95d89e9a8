"""``python -m whatsapp_hub`` is ``whatsapp-hub``."""

from __future__ import annotations

from whatsapp_hub.cli import main

if __name__ == "__main__":
    main()
