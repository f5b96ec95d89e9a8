// The messages that were not answered: why, what to do, and doing it, for one or for many.

import { getJson, postJson } from "../api.js";
import { h, put, table } from "../dom.js";
import { announce, ask, keepDoing, press, when } from "../frame.js";
import { businessChoice, businessName, field, messagePage, standing } from "../stories.js";
import { count, plural } from "../words.js";
import { loss } from "./message.js";

const EVERY_S = 5;
const AT_ONCE = 200; // the hub takes no more in one request
const AGES = [["", "Any time"], ["hour", "The last hour"], ["day", "The last day"], ["week", "The last 7 days"],
  ["older", "More than 7 days ago"]];

export async function show(page) {
  const wanted = { business: "", age: "", reason: "" };
  const chosen = new Set();
  const followed = new Map(); // what was retried from here, by id, with where it stands
  let letters = [];
  let more = null;
  let isLong = false; // older ones were added: what is listed stays
  let drawn = "";
  const list = h("div", { class: "card" }, h("p", { class: "empty" }, "Looking…"));
  const reasons = h("select", { id: "reason", change: () => press(reasons, () => filter({ reason: reasons.value })) });
  const ages = h("select", { id: "age", change: () => press(ages, () => filter({ age: ages.value })) },
    ...AGES.map(([value, words]) => h("option", { value }, words)));
  const bar = h("div", { class: "card row spread bulk", role: "group", "aria-label": "What to do with the chosen ones" });
  const older = h("button", { type: "button", class: "second", hidden: true, click: () => press(older, showOlder) }, "Show older ones");

  async function refresh() {
    await follow();
    if (list.contains(document.activeElement) && letters.length) return; // nobody's place is moved
    await look();
  }
  async function look() {
    const [answer, found] = await Promise.all([
      getJson("/console/api/dead-letters", wanted),
      getJson("/console/api/dead-letters/reasons", { business: wanted.business, age: wanted.age }),
    ]);
    if (!isLong) ({ items: letters, more } = answer);
    const gone = [...chosen].filter((id) => !letters.some((letter) => letter.id === id));
    for (const id of gone) chosen.delete(id);
    drawReasons(found.items);
    draw();
  }
  async function filter(changes) {
    Object.assign(wanted, changes);
    chosen.clear();
    isLong = false;
    await look();
    announce(plural(letters.length, "dead letter"));
  }
  async function showOlder() {
    const answer = await getJson("/console/api/dead-letters", { ...wanted, before: more });
    letters = [...letters, ...answer.items];
    more = answer.more;
    isLong = true;
    draw();
    announce(`${plural(answer.items.length, "older dead letter")} added`);
  }
  async function follow() {
    for (const [id, one] of followed) {
      if (one.ended) continue;
      const message = await getJson(`/console/api/messages/${encodeURIComponent(id)}`);
      if (message.standing.label !== one.standing.label) announce(`The retried message is ${message.standing.label}`);
      followed.set(id, message);
    }
    draw();
  }

  function draw() {
    const now = JSON.stringify([letters, [...followed.values()], [...chosen], more, wanted]);
    if (now === drawn) return;
    drawn = now;
    const focused = document.activeElement?.id;
    put(list,
      followed.size > 0 && retried([...followed.values()]),
      letters.length ? letterTable() : h("p", { class: "empty" }, wanted.business || wanted.age || wanted.reason
        ? "No dead letter fits this choice." : "No dead letters: everything was answered."));
    older.hidden = !more;
    drawBar();
    if (focused) document.getElementById(focused)?.focus();
  }
  function drawReasons(found) {
    const options = found.map(({ reason, count: n }) => h("option", { value: reason, selected: reason === wanted.reason }, `${reason} (${count(n)})`));
    const total = found.reduce((sum, one) => sum + one.count, 0);
    if (document.activeElement !== reasons) put(reasons, h("option", { value: "" }, `Every reason (${count(total)})`), ...options);
  }
  function drawBar() {
    bar.hidden = !letters.length;
    const all = more && chosen.size === letters.length;
    const act = (verb) => (event) => press(event.currentTarget, () => (all && everything.checked ? actOnAll(verb) : actOn(verb, [...chosen])));
    const everything = h("input", { type: "checkbox", id: "everything" });
    put(bar,
      h("span", { class: "row" },
        h("span", { id: "chosen" }, chosen.size ? `${plural(chosen.size, "dead letter")} chosen` : "None chosen"),
        all && h("label", { class: "row" }, everything, "and all older ones that fit")),
      h("span", { class: "row" },
        h("button", { type: "button", id: "retry", disabled: !chosen.size, click: act("retry") }, "Retry"),
        h("button", { type: "button", id: "discard", class: "bad", disabled: !chosen.size, click: act("discard") }, "Discard")));
  }
  function letterTable() {
    const everyone = h("input", { type: "checkbox", id: "choose-all", "aria-label": "Choose all that are listed",
      checked: letters.every(({ id }) => chosen.has(id)), change: () => {
        for (const { id } of letters) everyone.checked ? chosen.add(id) : chosen.delete(id);
        draw();
      } });
    return h("div", { class: "stack" }, h("label", { class: "row choose" }, everyone, "All that are listed"),
      table("Dead letters, the newest first", [
        { title: "Reason", cell: reasonCell },
        { title: "Business", cell: businessName },
        { title: "Died", cell: (letter) => when(letter.died_at) },
        { title: "Tried", number: true, cell: (letter) => String(letter.attempts) },
        { title: "", cell: (letter) => retryButton(letter) },
      ], letters));
  }
  function reasonCell(letter) {
    const box = h("input", { type: "checkbox", id: `choose-${letter.id}`, "aria-label": `Choose ${letter.id}`,
      checked: chosen.has(letter.id), change: () => {
        box.checked ? chosen.add(letter.id) : chosen.delete(letter.id);
        draw();
      } });
    return h("div", { class: "letter" }, box, h("div", {},
      h("a", { href: messagePage(letter.id) }, letter.reason || "no reason is known"),
      h("span", { class: "sub" }, letter.advice),
      letter.parts_sent > 0 && h("span", { class: "sub" }, `${letter.parts_sent} of ${letter.parts} parts reached the customer; a retry sends the rest.`),
      letter.retried && h("span", { class: "sub" }, "It was retried before.")));
  }
  function retryButton(letter) {
    const button = h("button", { type: "button", class: "second small", "aria-label": `Retry ${letter.id}`,
      click: () => press(button, () => actOn("retry", [letter.id])) }, "Retry");
    return button;
  }

  async function actOn(verb, ids) {
    const stands = letters.filter(({ id }) => ids.includes(id)).reduce((sum, one) => sum + 1 + one.members, 0);
    if (verb === "discard" && !await ask(`Discard ${plural(ids.length, "dead letter")}?`, loss(stands), "Discard")) return;
    let [done, gone] = [0, 0];
    const inOrder = letters.map(({ id }) => id).filter((id) => ids.includes(id)).reverse(); // the oldest first
    for (let at = 0; at < inOrder.length; at += AT_ONCE) {
      const answer = await postJson(`/console/api/dead-letters/${verb}`, { ids: inOrder.slice(at, at + AT_ONCE) });
      [done, gone] = [done + answer.done.length, gone + answer.gone.length];
      forget([...answer.done, ...answer.gone]);
    }
    if (verb === "retry" && ids.length === 1 && done) {
      followed.set(ids[0], { id: ids[0], ended: false, standing: { tone: "", label: "put back", words: "" } });
    }
    announce(`${plural(done, "dead letter")} ${DONE[verb]}${gone ? `; ${count(gone)} were none any more` : ""}`);
    await look();
    if (followed.size) watch();
  }
  async function actOnAll(verb) {
    if (verb === "discard" && !await ask("Discard all dead letters that fit?", "None of these messages will get an answer: not now, and not by a later retry.", "Discard all")) return;
    const before = new Date(Date.parse(letters[0].died_at) + 1).toISOString(); // what dies again meanwhile is left alone
    let done = 0;
    for (let answer = { more: true }; answer.more;) {
      answer = await postJson(`/console/api/dead-letters/${verb}`, { ...wanted, all: true, before });
      done += answer.done.length;
      announce(`${plural(done, "dead letter")} ${DONE[verb]} so far`);
      if (!answer.done.length) break;
    }
    chosen.clear();
    isLong = false;
    await look();
    announce(`${plural(done, "dead letter")} ${DONE[verb]}`);
  }
  function forget(ids) {
    letters = letters.filter(({ id }) => !ids.includes(id));
    for (const id of ids) chosen.delete(id);
  }
  let watching = false;
  async function watch() {
    if (watching) return;
    watching = true;
    for (let looks = 0; looks < 60 && [...followed.values()].some((one) => !one.ended); looks += 1) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await follow().catch(() => {});
    }
    watching = false;
  }

  const choice = await businessChoice("", (name) => press(choice.querySelector("select"), () => filter({ business: name })));
  put(page, h("div", { class: "filters" }, choice, field("Died", ages), field("Reason", reasons)), bar, list, h("div", { class: "row" }, older));
  await keepDoing(refresh, EVERY_S);
}

const DONE = { retry: "put back", discard: "discarded" };

function retried(messages) {
  return h("section", { class: "followed stack", "aria-labelledby": "retried" },
    h("h2", { id: "retried" }, "Retried from here"),
    h("ul", { class: "plain" }, ...messages.map((one) => h("li", { class: "row" },
      standing(one.standing), h("a", { class: "id", href: messagePage(one.id) }, one.id),
      one.standing.words && h("span", { class: "hint" }, one.standing.words)))));
}
