"""Histories with one thing wrong: what the checker has to find in the example, and by which clause (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.faults.history import Delivery, History, RankSeen, Recovery, Sending
from tests.faults.stories import NGINX_PAGE, TOKEN, Fate, Plan, TurnPlan, tell

ANNA: Final = "491510000001"
BERT: Final = "491510000002"
A: Final = "101-0001"  # Anna's conversation
B: Final = "102-0002"  # Bert's

Break = Callable[[History], History]


def example() -> History:
    """Return a history with something of everything.

    Anna: 0, 1 and 2 (one turn, led by 1, in two parts); 3; 4 (reported as failed); 5 (buried); 6 and 7 (retried); 8.
    Bert: 0; 1.
    """
    three = TurnPlan(messages=3, leader=1, parts=2, refusals=4, refused_sends=1)
    fates = [Fate.REPLIED, Fate.FAILED, Fate.BURIED]
    retried = TurnPlan(messages=2, fate=Fate.RETRIED)
    annas = [three, *(TurnPlan(fate=fate) for fate in fates), retried, TurnPlan()]
    return tell(
        Plan(number="101", customer=ANNA, turns=annas), Plan(number="102", customer=BERT, turns=[TurnPlan()] * 2)
    )


def key_of(sending: Sending) -> str:
    return f"{sending.number}:{sending.callback.rpartition('|')[2]}"


def shift(sending: Sending, seconds: float) -> Sending:
    return replace(sending, began_at=sending.began_at + seconds, ended_at=sending.ended_at + seconds)


def row_id(label: str) -> str:
    return f"{label[:3]}:wamid.{label.replace('#', '.')}"


def change_row(label: str, **values: Any) -> Break:
    """Set fields of a row; those that are None are taken away."""

    def change(history: History) -> History:
        assert any(row["_id"] == row_id(label) for row in history.rows)
        rows = [{**row, **values} if row["_id"] == row_id(label) else row for row in history.rows]
        return replace(history, rows=[{k: v for k, v in row.items() if v is not None} for row in rows])

    return change


def change_part(label: str, part: int, **values: Any) -> Break:
    def change(history: History) -> History:
        parts = list(next(row["parts"] for row in history.rows if row["_id"] == row_id(label)))
        parts[part] = {**parts[part], **values}
        return change_row(label, parts=parts)(history)

    return change


def drop_row(label: str) -> Break:
    return lambda history: replace(history, rows=[row for row in history.rows if row["_id"] != row_id(label)])


def is_for(sending: Sending, label: str, part: int) -> bool:
    return key_of(sending) == row_id(label) and sending.callback.startswith(f"hub1|{part}|") and sending.accepted


def the_sending(history: History, label: str, part: int = 0) -> Sending:
    """Return the first that was accepted of a part of a turn, named by who leads it."""
    return next(one for one in history.sendings if is_for(one, label, part))


def change_sending(label: str, part: int = 0, **values: Any) -> Break:
    """Change a sending; a ``{}`` in a string stands for what was there."""

    def change(history: History) -> History:
        sending = the_sending(history, label, part)
        filled: dict[str, Any] = {
            name: value.format(getattr(sending, name)) if isinstance(value, str) else value
            for name, value in values.items()
        }
        changed = replace(sending, **filled)
        return replace(history, sendings=[changed if one is sending else one for one in history.sendings])

    return change


def drop_sending(label: str, part: int = 0) -> Break:
    return lambda history: replace(history, sendings=[s for s in history.sendings if not is_for(s, label, part)])


def add_copy(label: str, attempt: int, **values: Any) -> Break:
    """Add a sending of the first part, under this attempt, right after the one that is there."""

    def add(history: History) -> History:
        sending = the_sending(history, label)
        callback = f"hub1|0|{attempt}|{sending.callback.split('|', 3)[3]}"
        return replace(history, sendings=[*history.sendings, replace(shift(sending, 0.5), callback=callback, **values)])

    return add


def change_places(label: str, other: str, part: int = 0, other_part: int = 0) -> Break:
    """Let two sendings change their times."""

    def change(history: History) -> History:
        one, two = the_sending(history, label, part), the_sending(history, other, other_part)
        history = change_sending(label, part, began_at=two.began_at, ended_at=two.ended_at)(history)
        return change_sending(other, other_part, began_at=one.began_at, ended_at=one.ended_at)(history)

    return change


def deliver(label: str, status: int, took_s: float = 0.5, **values: Any) -> Break:
    """Add a delivery."""

    def add(history: History) -> History:
        more = Delivery(began_at=500.0, ended_at=500.0 + took_s, status=status, **values)
        messages = [
            replace(message, deliveries=(*message.deliveries, more)) if message.label == label else message
            for message in history.messages
        ]
        return replace(history, messages=messages)

    return add


def see_rank(label: str, rank: int) -> Break:
    seen = RankSeen(row_id=row_id(label), part=0, attempt=1, rank=rank, at=900.0)
    return lambda history: replace(history, ranks=[*history.ranks, seen])


def add_row(like: str, label: str) -> Break:
    """Add a row that is another's but for its id."""

    def add(history: History) -> History:
        row = next(row for row in history.rows if row["_id"] == row_id(like))
        return replace(history, rows=[*history.rows, {**row, "_id": row_id(label)}])

    return add


def log(text: str) -> Break:
    return lambda history: replace(history, texts=[*history.texts, ("hub-2.log", f"ready\n{text}\n")])


def recover(first_progress_at: float | None) -> Break:
    recovery = Recovery(cleared_at=10.0, first_progress_at=first_progress_at, limit_s=3.5)
    return lambda history: replace(history, recoveries=[recovery])


def all_of(*breaks: Break) -> Break:
    def apply(history: History) -> History:
        for one in breaks:
            history = one(history)
        return history

    return apply


def no_echo(history: History) -> History:
    return replace(history, statuses_echoed=False)


BREAKS: Final[dict[tuple[str, str], dict[str, Break]]] = {
    ("I1", "check_durability"): {
        "a row is lost": drop_row(f"{A}#3"),
        "the row of a dead letter is lost": drop_row(f"{A}#5"),
    },
    ("I1", "check_rows_hold_their_message"): {
        "stored for another customer": change_row(f"{A}#3", conversation=f"101:{BERT}"),
        "stored for another number": change_row(f"{A}#3", conversation=f"102:{ANNA}"),
        "another text is stored": change_row(f"{A}#3", item=f"{A}#4".encode()),
    },
    ("I2", "check_every_row_is_covered"): {
        "dead without a reason": change_row(f"{A}#5", reason=""),
        "dead without the field": change_row(f"{A}#5", reason=None),
        "replied without a sending": drop_sending(f"{A}#3"),
        "replied without the second part": drop_sending(f"{A}#1", part=1),
        "replied, but refused": change_sending(f"{A}#3", accepted=False),
        "replied without parts": change_row(f"{A}#3", parts=[]),
        "the answer says nothing of it": change_sending(f"{A}#3", text="hello"),
        "the answer forgets a member": change_sending(f"{A}#1", 1, text=f"{A}#1"),
        "in the turn of a message that is not there": change_row(f"{A}#0", turn="101:x"),
        "in the turn of a member": all_of(
            change_row(f"{A}#0", turn=row_id(f"{A}#2")), change_row(f"{A}#2", members=[row_id(f"{A}#0")])
        ),
        "in its own turn": change_row(f"{A}#0", turn=row_id(f"{A}#0")),
        "in a turn, but in which": change_row(f"{A}#0", turn=None),
        "in a turn that does not know it": change_row(f"{A}#0", turn=row_id(f"{A}#3")),
        "in a turn of another conversation": all_of(
            change_row(f"{A}#3", outcome="in_turn", turn=row_id(f"{B}#0")),
            change_row(f"{B}#0", members=[row_id(f"{A}#3")]),
            change_sending(f"{B}#0", text=f"{{}} {A}#3"),
        ),
        "a member whose leader never sent": all_of(drop_sending(f"{A}#1"), drop_sending(f"{A}#1", 1)),
        "silence of a business that is on": change_row(f"{A}#3", outcome="no_reply"),
        "done, but how": change_row(f"{A}#3", outcome=None),
    },
    ("I2", "check_members_are_done"): {
        "a member that is answered by itself too": change_row(f"{A}#3", members=[row_id(f"{A}#8")]),
        "a member that is not there": drop_row(f"{A}#2"),
    },
    ("I2", "check_answers_reach_who_asked"): {
        "an answer that names nothing": change_sending(f"{A}#3", callback=""),
        "an answer that names another customer": change_sending(f"{A}#3", customer=BERT),
        "an answer that a status would take for another's": change_sending(
            f"{A}#3", callback=f"hub1|0|1|{BERT}|wamid.{A}.3"
        ),
        "another customer got it": change_sending(f"{A}#3", customer=BERT, callback=f"hub1|0|1|{BERT}|wamid.{A}.3"),
        "another number sent it": change_sending(f"{A}#3", number="102"),
        "an answer to nobody": change_sending(f"{A}#3", callback=f"hub1|0|1|{ANNA}|wamid.x"),
        "answered without a row": drop_row(f"{A}#3"),
    },
    ("I2", "check_labels_are_said_in_one_turn"): {
        "answered in two turns": change_sending(f"{A}#8", text=f"{{}} {A}#3"),
        "a dead letter that is answered": change_sending(f"{A}#8", text=f"{{}} {A}#5"),
        "a retried one in a third turn": change_sending(f"{A}#8", text=f"{{}} {A}#6"),
        "said to another customer": change_sending(f"{B}#0", text=f"{{}} {A}#3"),
        "a member that was answered too": change_sending(f"{A}#1", callback=f"hub1|0|1|{ANNA}|wamid.{A}.0"),
        "said without a row": drop_row(f"{A}#2"),
    },
    ("I2", "check_copies_are_told"): {
        "sent twice under one attempt": all_of(no_echo, add_copy(f"{A}#3", 1)),
        "a retried one, twice under one attempt": all_of(no_echo, add_copy(f"{A}#6", 1)),
        "sent again, untold": all_of(no_echo, add_copy(f"{A}#3", 2)),
        "sent again after a refusal, untold": all_of(
            no_echo, add_copy(f"{A}#3", 2), change_part(f"{A}#3", 0, attempt=2, failures=1)
        ),
        "an attempt that was not stored before": change_sending(f"{A}#3", callback=f"hub1|0|2|{ANNA}|wamid.{A}.3"),
        "a part that was not stored": change_sending(f"{A}#3", callback=f"hub1|1|1|{ANNA}|wamid.{A}.3"),
        "a silent one that was answered": change_row(f"{A}#3", outcome="no_reply", parts=[]),
        "a member that was answered too": change_sending(f"{A}#1", callback=f"hub1|0|1|{ANNA}|wamid.{A}.0"),
    },
    ("I2", "check_copies_say_the_same"): {
        "a copy that says something else": all_of(
            no_echo, add_copy(f"{A}#3", 2, text=f"once more {A}#3"), change_part(f"{A}#3", 0, attempt=2)
        ),
    },
    ("I2", "check_no_copy_that_a_status_would_have_spared"): {
        "a copy that a status would have spared": all_of(add_copy(f"{A}#3", 2), change_part(f"{A}#3", 0, attempt=2)),
        "a copy more than is allowed": all_of(
            add_copy(f"{A}#3", 2),
            change_part(f"{A}#3", 0, attempt=2),
            add_copy(f"{B}#0", 2),
            change_part(f"{B}#0", 0, attempt=2),
            lambda history: replace(history, allowed_copies=1),
        ),
    },
    ("I3", "check_messages_are_answered_in_order"): {
        "two answers change places": change_places(f"{A}#3", f"{A}#8"),
        "a dead letter's answer comes late": change_places(f"{A}#4", f"{A}#8"),
        "two labels change places": change_sending(f"{A}#1", 1, text=f"{A}#2 {A}#1"),
    },
    ("I3", "check_parts_are_in_order"): {
        "the parts change places": change_places(f"{A}#1", f"{A}#1", 0, 1),
    },
    ("I3", "check_turns_do_not_mix"): {
        "a turn between another's parts": change_places(f"{A}#1", f"{A}#3", 1, 0),
    },
    ("I3", "check_sendings_do_not_overlap"): {
        "two sendings overlap": change_sending(f"{A}#3", ended_at=900.0),
        "two parts overlap": change_sending(f"{A}#1", ended_at=900.0),
        "a first attempt overlaps another's second": all_of(
            change_sending(f"{B}#0", ended_at=900.0),
            change_sending(f"{B}#1", callback=f"hub1|0|2|{BERT}|wamid.{B}.1"),
            change_part(f"{B}#1", 0, attempt=2),
        ),
        "one attempt twice at once": all_of(add_copy(f"{B}#1", 1), change_sending(f"{B}#1", ended_at=900.0)),
    },
    ("I4", "check_rows_are_messages"): {
        "a dead letter that nobody sent": add_row(f"{A}#5", f"{A}#77"),
        "an answered row that nobody sent": add_row(f"{A}#3", f"{A}#77"),
        "a row twice": add_row(f"{A}#5", f"{A}#5"),
    },
    ("I4", "check_states_add_up"): {
        "a state that is none": change_row(f"{A}#3", state="lost"),
        "open at rest": change_row(f"{A}#3", state="queued"),
    },
    ("I5", "check_nothing_stays_behind"): {
        "active at rest": change_row(f"{A}#3", state="active"),
        "queued at rest": change_row(f"{A}#3", state="queued"),
        "owned at rest": change_row(f"{A}#3", owner=""),
    },
    ("I5", "check_recovery_is_quick"): {
        "slow to go on": recover(13.6),
        "never going on": recover(None),
    },
    ("I9", "check_what_was_answered_200_is_stored"): {
        "200 without a row": all_of(drop_row(f"{A}#5"), deliver(f"{A}#5", 200)),
    },
    ("I9", "check_refusals_are_honest"): {
        "answered 500": deliver(f"{A}#3", 500, retry_after=True),
        "answered 429": deliver(f"{A}#3", 429, retry_after=True),
        "answered 503 without Retry-After": deliver(f"{A}#3", 503),
        "answered 504 by the hub itself": deliver(f"{A}#3", 504, retry_after=True),
    },
    ("I9", "check_answers_are_quick"): {
        "a slow answer": deliver(f"{A}#3", 200, took_s=5.0),
        "no answer for 5 s": deliver(f"{A}#3", 0, took_s=5.0),
        "a slow page of nginx": deliver(f"{A}#3", 504, took_s=6.0, body=NGINX_PAGE),
    },
    ("I11", "check_ranks_never_fall"): {
        "a rank that falls": all_of(see_rank(f"{A}#3", 3), see_rank(f"{A}#3", 2)),
        "a rank that is lost": all_of(see_rank(f"{A}#3", 3), see_rank(f"{A}#3", 0)),
        "a rank that fell unseen": change_part(f"{A}#3", 0, rank=0),
    },
    ("I12", "check_nothing_is_told"): {
        "a token in a log": log(f"Bearer {TOKEN}"),
        "a phone number in a log": log(f'"customer": "{ANNA}"'),
        "a token in an answer": deliver(f"{A}#3", 200, body=TOKEN),
    },
}
