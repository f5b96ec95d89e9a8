// The way of one message, step by step.

import { $, duration, element, setData, setText } from "./dom.js";
import { state } from "./stream.js";

const STEPS = {
  signature: ["Signature", "HMAC-SHA256 over the raw bytes", "hub", null],
  stored: ["Stored", "by a majority, in the journal", "database", "signature"],
  acked: ["200 to Meta", "only now: what is acknowledged stays", "hub", "stored"],
  turn: ["Turn", "one at a time in a conversation", "hub", "stored"],
  assistant: ["Assistant", "has written the reply", "assistant", "turn"],
  decided: ["Commit point", "the reply is stored before it is sent", "database", "assistant"],
  sent: ["Sent", "taken by Graph, with the business's token", "Graph", "decided"],
  delivered: ["Delivered", "a status webhook says so", "Graph", "sent"],
  read: ["Read", "a status webhook says so", "Graph", "delivered"],
};

let rows = null;

export function drawWay(id) {
  rows ??= makeRows();
  const message = state.messages.get(id);
  setText($("way-of"), message ? `“${message.text.slice(0, 80)}”` : "Nothing written yet.");
  $("way-note").hidden = !message?.note && !message?.joined && !(message?.posts > 1);
  if (!message) {
    for (const row of rows.values()) drawLater(row);
    return;
  }
  setText($("way-note"), wordsOf(message));
  const last = message.path.findLastIndex(([, ms]) => ms !== null);
  const failed = message.refused || message.state === "dead";
  const path = new Map(message.path);
  const total = Math.max(1, ...path.values());
  message.path.forEach(([name, ms], index) => {
    const row = rows.get(name);
    setData(row.node, "state", ms !== null || index < last ? "done" : index === last + 1 ? (failed ? "failed" : "next") : "later");
    const start = before(name, path);
    setText(row.took, ms === null ? "" : duration(Math.max(0, ms - start)));
    row.bar.style.setProperty("--start", start / total);
    row.bar.style.setProperty("--length", ms === null ? 0 : Math.max(0, ms - start) / total);
    setText(row.since, ms === null ? "" : `at ${duration(Math.max(0, ms))}`);
  });
}

function drawLater(row) {
  setData(row.node, "state", "later");
  setText(row.took, "");
  setText(row.since, "");
}

// When the step was over that had to come first; the nearest one whose time is known.
function before(name, path) {
  const first = STEPS[name][3];
  return first ? (path.get(first) ?? before(first, path)) : 0;
}

function wordsOf(message) {
  const words = [];
  if (message.note) words.push(message.note);
  if (message.posts > 1) words.push(`Meta posted it ${message.posts} times.`);
  if (message.joined) words.push("Answered together with another message.");
  return words.join(" ");
}

function makeRows() {
  const made = new Map();
  for (const [name, [title, words, place]] of Object.entries(STEPS)) {
    const took = element("span", { className: "took" });
    const since = element("span", { className: "since" });
    const bar = element("span", { className: "bar", ariaHidden: "true" });
    const node = element(
      "li",
      { "data-step": name, "data-state": "later" },
      element("span", { className: "lamp", ariaHidden: "true" }),
      element("div", {}, element("strong", { text: title }), element("span", { className: "place", text: place }), element("p", { text: words })),
      element("div", { className: "times" }, took, since),
      bar,
    );
    made.set(name, { node, took, since, bar });
  }
  $("way").append(...[...made.values()].map((row) => row.node));
  return made;
}
