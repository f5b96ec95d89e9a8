"""What Meta allows of a message that is sent (pure).

Lengths are in characters, counted as ``outgoing.TEXT_LIMIT`` is. Where a number comes from stands beside it:
``buttons`` is Meta's page on interactive reply buttons, ``lists`` the one on interactive lists, ``contacts`` the one on
contacts messages.
"""

from __future__ import annotations

from typing import Final

CAPTION: Final = 1024  #: of an image, a video or a document
BODY: Final = 1024  #: of buttons, of a link button and of a request for a location (``buttons``)
HEADER: Final = 60
FOOTER: Final = 60

BUTTONS: Final = 3  #: ``buttons``
BUTTON_TITLE: Final = 20
BUTTON_ID: Final = 256

LIST_BODY: Final = 4096  #: ``lists``
LIST_OPENER: Final = 20
SECTION_TITLE: Final = 24
ROWS: Final = 10  #: of all sections together; sections may be as many, so that each has a row
ROW_ID: Final = 200
ROW_TITLE: Final = 24
ROW_DESCRIPTION: Final = 72

DISPLAY_TEXT: Final = 20  #: of a link button (page on interactive CTA URL buttons)
CARDS: Final = 257  #: ``contacts``
