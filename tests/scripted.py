"""An operator's own assistant that says what a test has told it: ``ASSISTANTS=scripted=tests.scripted:Scripted``."""

from __future__ import annotations

from typing import ClassVar, Final

from whatsapp_hub.assistants.base import Answer, Turn

#: The settings of a hub that it answers for.
SCRIPTED: Final = {"ASSISTANT": "scripted", "ASSISTANTS": "scripted=tests.scripted:Scripted"}


class Scripted:
    """Answers each of the customer's texts with what is written under it; with nothing where there is nothing."""

    script: ClassVar[dict[str, Answer]] = {}
    turns: ClassVar[list[Turn]] = []

    async def reply(self, turn: Turn) -> Answer:
        """Look it up."""
        self.turns.append(turn)
        return self.script.get(turn.messages[-1].text)

    @classmethod
    def says(cls, **script: Answer) -> None:
        """Say only this from now on."""
        cls.script = dict(script)
        cls.turns = []
