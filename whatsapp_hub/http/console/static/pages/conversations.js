// The conversations that something happened in last, and the messages that wait for an answer.

import { getJson } from "../api.js";
import { h, put, table } from "../dom.js";
import { announce, keepDoing, press, when } from "../frame.js";
import { businessChoice, businessName, conversationPage, customer, messagePage, standing } from "../stories.js";
import { plural } from "../words.js";

const EVERY_S = 5;

export async function show(page) {
  let business = "";
  let items = [];
  let more = null;
  let isLong = false; // older ones were added: what is listed stays
  const waiting = h("div");
  const list = h("div", { class: "card" }, h("p", { class: "empty" }, "Looking…"));
  const older = h("button", { type: "button", class: "second", hidden: true, click: () => press(older, showOlder) }, "Show older ones");

  const ask = (before) => getJson("/console/api/conversations", { business, before });
  const draw = () => {
    put(list, items.length ? conversations(items) : h("p", { class: "empty" }, "No conversation yet. They appear here once a message was answered."));
    older.hidden = !more;
  };
  async function refresh() {
    if (list.contains(document.activeElement)) return; // nobody's place is moved
    const answer = await ask();
    put(waiting, waitingCard(answer.waiting));
    if (isLong) return;
    ({ items, more } = answer);
    draw();
  }
  async function showOlder() {
    const answer = await ask(more);
    items = [...items, ...answer.items];
    more = answer.more;
    isLong = true;
    draw();
    announce(`${plural(answer.items.length, "older conversation")} added`);
  }
  async function choose(name) {
    business = name;
    isLong = false;
    await refresh();
  }

  const choice = await businessChoice(business, (name) => press(choice.querySelector("select"), () => choose(name)));
  put(page, h("div", { class: "filters" }, choice), waiting, list, h("div", { class: "row" }, older));
  await keepDoing(refresh, EVERY_S);
}

function conversations(items) {
  return table("Conversations, the latest first", [
    { title: "Customer", cell: (item) => h("a", { href: conversationPage(item.conversation) }, customer(item.customer)) },
    { title: "Business", cell: businessName },
    { title: "Answered", cell: (item) => when(item.updated_at) },
    { title: "Turns kept", number: true, cell: (item) => String(item.turns) },
    { title: "Now", cell: (item) => (item.standing ? standing(item.standing) : h("span", { class: "muted" }, "at rest")) },
  ], items);
}

function waitingCard(rows) {
  if (!rows.length) return null;
  return h("section", { class: "card stack", "aria-labelledby": "waiting" },
    h("h2", { id: "waiting" }, "Waiting for an answer"),
    table("Messages that wait for an answer, the longest first", [
      { title: "Customer", cell: (row) => h("a", { href: messagePage(row.id) }, customer(row.customer)) },
      { title: "Business", cell: businessName },
      { title: "Came", cell: (row) => when(row.received_at) },
      { title: "Stands", cell: (row) => [standing(row.standing), h("span", { class: "sub" }, row.standing.words)] },
    ], rows));
}
