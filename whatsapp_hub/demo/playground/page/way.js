// The way of one message, step by step.

import { $, duration, element, setData, setText } from "./dom.js";
import { state } from "./stream.js";

const STEPS = {
  signature: ["Signature", "HMAC-SHA256 over the raw bytes", "hub"],
  stored: ["Stored", "on a majority of the database's nodes, journalled", "database"],
  acked: ["200 to Meta", "only now: what is acknowledged is never lost", "hub"],
  turn: ["Turn", "one at a time in each conversation", "hub"],
  assistant: ["Assistant", "has written the reply", "assistant"],
  decided: ["Commit point", "stored before it is sent: nobody asks twice", "database"],
  sent: ["Sent", "Graph has taken it, with the business's own token", "Graph"],
  delivered: ["Delivered", "a status webhook says so", "Graph"],
  read: ["Read", "a status webhook says so", "Graph"],
};

let rows = null;

export function drawWay(id) {
  rows ??= makeRows();
  const message = state.messages.get(id);
  $("way").hidden = !message;
  setText($("way-of"), message ? `“${message.text.slice(0, 80)}”` : "Nothing written yet.");
  $("way-note").hidden = !message?.note && !message?.joined && !(message?.posts > 1);
  if (!message) return;
  setText($("way-note"), wordsOf(message));
  const last = message.path.findLastIndex(([, ms]) => ms !== null);
  const failed = message.refused || message.state === "dead";
  let before = 0;
  message.path.forEach(([name, ms], index) => {
    const row = rows.get(name);
    setData(row.node, "state", ms !== null || index < last ? "done" : index === last + 1 ? (failed ? "failed" : "next") : "later");
    setText(row.took, ms === null ? "" : duration(Math.max(0, ms - before)));
    setText(row.since, ms === null ? "" : `at ${duration(Math.max(0, ms))}`);
    if (ms !== null) before = Math.max(before, ms);
  });
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
    const node = element(
      "li",
      { "data-step": name, "data-state": "later" },
      element("span", { className: "lamp", ariaHidden: "true" }),
      element("div", {}, element("strong", { text: title }), element("span", { className: "place", text: place }), element("p", { text: words })),
      element("div", { className: "times" }, took, since),
    );
    made.set(name, { node, took, since });
  }
  $("way").append(...[...made.values()].map((row) => row.node));
  return made;
}
