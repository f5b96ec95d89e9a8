"""What the console's handlers work with."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from whatsapp_hub.database import Database
from whatsapp_hub.http.console.session import Session

MOST_ENDED: Final = 1000  #: sessions that are remembered as ended


@dataclass(slots=True, kw_only=True)
class Console:
    """One for each application; handlers find it under ``keys.CONSOLE``."""

    database: Database
    _ended: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def end(self, session: Session) -> None:
        """Let nobody in with this session any more; at this process, since no session is stored anywhere."""
        self._ended[session.id] = session.ends_at
        if len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    def has_ended(self, session: Session) -> bool:
        """Whether somebody has logged out of this session."""
        return session.id in self._ended
