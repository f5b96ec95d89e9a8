"""The demo's hub, as the program that ``hub_process`` starts: the production server with settings from its stdin."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import orjson

from whatsapp_hub.server import serve
from whatsapp_hub.settings import Settings
from whatsapp_hub.telemetry.logs import setup_logging

READY = b"ready\n"


def main() -> int:
    """Wait for the settings, then serve until the end; return the exit status."""
    handover = orjson.loads(sys.stdin.buffer.readline() or b"null")
    if handover is None:  # started in advance, and not needed after all
        return 0
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(handover["environ"])
    settings = Settings.isolated(**handover["settings"])
    setup_logging(settings)
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    return serve(
        settings,
        listener=listener,
        playground=handover["playground"],
        on_ready=lambda _: _tell_parent(),
    )


def _end_with_parent() -> None:
    """Stop when whoever started this is gone: only then does the pipe end. No read-ahead, nothing comes any more."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _tell_parent() -> None:
    os.write(sys.stdout.fileno(), READY)


if __name__ == "__main__":
    sys.exit(main())
