from __future__ import annotations

from collections.abc import Callable

from whatsapp_hub.errors import AssistantFailed
from whatsapp_hub.telemetry.tracebacks import describe

WORDS = "what a customer wrote"


def caught(work: Callable[[], object]) -> BaseException:
    """Return what it raises."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def stumble() -> None:
    raise ValueError(WORDS)


def stumble_on() -> None:
    try:
        stumble()
    except ValueError as error:
        raise KeyError(WORDS) from error


def stumble_while_handling() -> None:
    try:
        stumble()
    except ValueError:
        raise AssistantFailed("no answer") from None


def test_place_and_kind_are_shown_and_words_are_not() -> None:
    text = describe(caught(stumble))
    assert "in stumble" in text
    assert text.splitlines()[-1] == "ValueError"
    assert WORDS not in text


def test_what_led_to_it_comes_first() -> None:
    text = describe(caught(stumble_on))
    assert text.index("ValueError") < text.index("which led to:") < text.rindex("KeyError")
    assert WORDS not in text


def test_own_errors_keep_their_words() -> None:
    text = describe(caught(stumble_while_handling))
    assert text.splitlines()[-1].endswith("AssistantFailed: no answer")
    assert "ValueError" not in text.splitlines()


def test_members_of_a_group_are_shown() -> None:
    text = describe(ExceptionGroup(WORDS, [ValueError(WORDS), KeyError(WORDS)]))
    assert [line for line in text.splitlines() if line.endswith("Error")] == ["ValueError", "KeyError"]
    assert WORDS not in text


def test_circle_of_errors_comes_to_an_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first).splitlines()[-1] == "ValueError"
