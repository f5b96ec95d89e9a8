"""Whether somebody sits here who would see a browser open."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def has_browser(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell: not in CI, not at the other end of an ssh, not where the output goes elsewhere than to a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    if any(environ.get(name) for name in ("CI", "SSH_CONNECTION", "SSH_TTY")):
        return False
    return sys.platform == "darwin" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
