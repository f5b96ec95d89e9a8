from __future__ import annotations

from whatsapp_hub.cloud_api.messages import ConversationId
from whatsapp_hub.conversation.memory import Memory


def fill(memory: Memory, number: str, *, most: int = 1_000_000) -> int:
    """Open conversations of a number until it has no more room; return how many."""
    opened = 0
    while opened < most and memory.room(number) > 0:
        opened += 1
        memory.open(ConversationId(f"{number}:{opened}"))
    return opened


def test_one_number_alone_gets_half_of_the_room() -> None:
    assert fill(Memory(most=1000), "101") == 500


def test_number_that_has_nothing_always_gets_in() -> None:
    memory = Memory(most=1000)
    hogs = [f"{hog}" for hog in range(100, 130)]
    for hog in hogs:
        assert fill(memory, hog) > 0
    assert len(memory) <= 1000 + len(hogs)
    assert memory.room("999") == 1


def test_room_is_there_again_when_conversations_are_forgotten() -> None:
    memory = Memory(most=10)
    fill(memory, "101")
    assert memory.room("101") == 0
    for conversation in list(memory):
        memory.forget(conversation)
    assert memory.room("101") == 10
    assert len(memory) == 0


def test_conversation_with_something_left_is_not_forgotten() -> None:
    memory = Memory(most=10)
    conversation = memory.open(ConversationId("101:a"))
    conversation.arriving = 1
    memory.forget(conversation)
    assert memory.get(ConversationId("101:a")) is conversation
    assert memory.open(ConversationId("101:a")) is conversation


def test_conversation_from_before_everything_was_dropped_is_not_known() -> None:
    memory = Memory(most=10)
    old = memory.open(ConversationId("101:a"))
    assert list(memory.drop_all()) == [old]
    new = memory.open(ConversationId("101:a"))
    memory.forget(old)
    assert not memory.knows(old)
    assert memory.knows(new)
    assert memory.room("101") == 8
