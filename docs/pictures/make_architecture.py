#!/usr/bin/env python3
"""Draw ``architecture.svg``: the rooms, and the way of a message through them. Needs nothing but Python."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).with_name("architecture.svg")
WIDTH, HEIGHT = 1180, 644
LINE: Final = 17

HEAD: Final = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"
    aria-labelledby="t d" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif">
<title id="t">The rooms of the hub, and the way of a message through them</title>
<desc id="d">Meta posts a webhook; it is verified, taken apart and stored, and only then answered. The dispatcher gives
its conversation a turn, the reply is decided and stored, then delivered by Graph. Statuses come back as webhooks.
Everything durable lies in MongoDB, which other processes of the hub share.</desc>"""

STYLE: Final = """
.bg { fill: #ffffff } .room { fill: #eef4ff; stroke: #3b6fd4; stroke-width: 1.5 }
.pure { fill: #f4f0fc; stroke: #7a5bc7; stroke-width: 1.5; stroke-dasharray: 6 3 }
.durable { fill: #dff3e4; stroke: #23804a; stroke-width: 2 }
.outside { fill: #f3f4f7; stroke: #6b7a99; stroke-width: 1.5 }
.name { font-size: 15.5px; font-weight: 600; fill: #14213d } .what { font-size: 12.5px; fill: #33415c }
.label { font-size: 12.5px; fill: #56627d } .kept { font-size: 12.5px; font-weight: 600; fill: #23804a }
.arrow { stroke: #6b7a99; stroke-width: 2; fill: none } .write { stroke: #23804a; stroke-width: 2; fill: none }
.head { fill: #6b7a99 } .whead { fill: #23804a }
@media (prefers-color-scheme: dark) {
.bg { fill: #12161f } .room { fill: #1b2740; stroke: #82aaff } .pure { fill: #241e38; stroke: #b49af0 }
.durable { fill: #163425; stroke: #5bc98a } .outside { fill: #1c212c; stroke: #93a1bd } .name { fill: #eef2fb }
.what { fill: #b8c3d9 } .label { fill: #93a1bd } .kept { fill: #5bc98a } .arrow { stroke: #93a1bd }
.write { stroke: #5bc98a } .head { fill: #93a1bd } .whead { fill: #5bc98a } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A room, or somebody outside."""

    kind: str
    x: int
    y: int
    w: int
    h: int
    name: str
    what: tuple[str, ...] = ()

    def draw(self) -> str:
        """Return it with its words in the middle."""
        middle = self.x + self.w // 2
        top = self.y + self.h // 2 - LINE * len(self.what) // 2 + 5
        lines = [f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.w}" height="{self.h}" rx="8"/>']
        lines += [text("name", middle, top, self.name)] if self.name else []
        lines += [text("what", middle, top + 2 + LINE * n, words) for n, words in enumerate(self.what, 1)]
        return "\n".join(lines)


def text(kind: str, x: int, y: int, words: str, anchor: str = "middle") -> str:
    """Return a line of words."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def arrow(*points: tuple[int, int], kind: str = "arrow") -> str:
    """Return a line along the points, with a head at its end."""
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    back, side = (x - 9 * dx, y - 9 * dy), (5 * dy, 5 * dx)
    head = f"M{x} {y} L{back[0] + side[0]} {back[1] + side[1]} L{back[0] - side[0]} {back[1] - side[1]} z"
    return f'<path class="{kind}" d="{path}"/><path class="{"whead" if kind == "write" else "head"}" d="{head}"/>'


BOXES: Final = (
    Box(kind="outside", x=20, y=24, w=130, h=446, name=""),
    Box(kind="room", x=215, y=80, w=180, h=84, name="http/webhook", what=("size, time, room", "in memory")),
    Box(
        kind="pure",
        x=435,
        y=80,
        w=205,
        h=84,
        name="cloud_api/payload",
        what=("signature, then every item", "of every change"),
    ),
    Box(kind="room", x=680, y=80, w=210, h=84, name="inbox/journal", what=("many webhooks,", "one insert")),
    Box(
        kind="room",
        x=930,
        y=80,
        w=230,
        h=84,
        name="conversation/dispatcher",
        what=("one turn at a time for each", "conversation, fair to businesses"),
    ),
    Box(
        kind="room",
        x=215,
        y=232,
        w=180,
        h=92,
        name="http, other doors",
        what=("/api/v1 sends", "/console, /admin operate", "/ready, /metrics tell"),
    ),
    Box(
        kind="durable",
        x=435,
        y=232,
        w=455,
        h=92,
        name="MongoDB, a replica set",
        what=("inbox · conversations · events · nodes · businesses", "a majority has it in its journal"),
    ),
    Box(
        kind="room",
        x=930,
        y=386,
        w=230,
        h=84,
        name="conversation/decision",
        what=("what is answered, and", "with what"),
    ),
    Box(
        kind="room",
        x=680,
        y=386,
        w=210,
        h=84,
        name="conversation/delivery",
        what=("part by part, each settled", "before the next"),
    ),
    Box(
        kind="room",
        x=435,
        y=386,
        w=205,
        h=84,
        name="cloud_api/client",
        what=("200 connections, Meta's", "limits, retries"),
    ),
    Box(
        kind="room",
        x=680,
        y=530,
        w=210,
        h=84,
        name="tenants/directory",
        what=("who it is: cached,", "decrypted, changes seen"),
    ),
    Box(
        kind="room",
        x=930,
        y=530,
        w=230,
        h=84,
        name="assistants",
        what=("echo · a model · an endpoint ·", "code of your own"),
    ),
    Box(
        kind="outside",
        x=215,
        y=530,
        w=425,
        h=84,
        name="More processes of the hub",
        what=("share the database; what a dead one had is theirs", "after 15 s, at once if it stopped cleanly"),
    ),
)

ARROWS: Final = (
    arrow((150, 122), (213, 122)),
    arrow((395, 122), (433, 122)),
    arrow((640, 122), (678, 122)),
    arrow((890, 122), (928, 122)),
    arrow((785, 80), (785, 46), (152, 46)),
    arrow((1100, 164), (1100, 384)),
    arrow((930, 428), (892, 428)),
    arrow((680, 428), (642, 428)),
    arrow((435, 428), (152, 428)),
    arrow((1100, 530), (1100, 472)),
    arrow((785, 530), (785, 501), (985, 501), (985, 472)),
    arrow((85, 410), (85, 278)),
    arrow((85, 216), (85, 136)),
    arrow((785, 164), (785, 230), kind="write"),
    arrow((985, 386), (985, 278), (892, 278), kind="write"),
    arrow((785, 386), (785, 326), kind="write"),
    arrow((395, 278), (433, 278), kind="write"),
    arrow((540, 530), (540, 500), (660, 500), (660, 326), kind="write"),
)

LABELS: Final = (
    text("name", 85, 52, "Meta"),
    text("what", 85, 127, "webhooks"),
    text("what", 85, 236, "statuses: sent,"),
    text("what", 85, 253, "delivered, read,"),
    text("what", 85, 270, "failed"),
    text("what", 85, 433, "Graph API"),
    text("label", 182, 112, "POST"),
    text("label", 292, 418, "POST /messages"),
    text("label", 1110, 280, "its turn", "start"),
    text("kept", 470, 38, "200, only now that it is durable"),
    text("kept", 797, 203, "stored once, its conversation locked", "start"),
    text("kept", 995, 312, "the reply,", "start"),
    text("kept", 995, 329, "before it", "start"),
    text("kept", 995, 346, "is sent", "start"),
    text("kept", 797, 361, "what became of it", "start"),
    text(
        "label",
        20,
        632,
        "Dashed: pure, bytes in, values or errors out. Green: on disk before anything else happens.",
        "start",
    ),
)


def draw() -> str:
    """Return the picture."""
    parts = [
        HEAD,
        f"<style>{STYLE}</style>",
        f'<rect class="bg" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        *(box.draw() for box in BOXES),
        *ARROWS,
        *LABELS,
        "</svg>\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
