// The businesses: how each stands, and switching it on and off.

import { getJson, postJson } from "../api.js";
import { h, put, table } from "../dom.js";
import { announce, ask, keepDoing, press, when } from "../frame.js";
import { count, moment, relative } from "../words.js";

const EVERY_S = 10;
const TYPING_MS = 250;
const SOON_MS = 7 * 86400 * 1000;
const MOST_COUNTED = 10000;

const STATES = {
  serving: ["good", "Serving"],
  held: ["bad", "Held"],
  faulty: ["bad", "Faulty"],
  contested: ["bad", "Contested"],
  off: ["", "Off"],
};
const SHOWN = { all: "All", attention: "Needing attention", on: "Switched on", off: "Switched off" };

/** Show the businesses that the page's address asks for. */
export async function show(page) {
  const view = readAddress();
  const field = h("input", { type: "search", id: "words", value: view.words, autocomplete: "off",
    placeholder: "Name, subdomain or phone number id", input: () => later(() => go({ words: field.value.trim(), page: 1 })) });
  const choice = h("select", { id: "state", change: () => go({ state: choice.value, page: 1 }) },
    Object.entries(SHOWN).map(([value, name]) => h("option", { value, selected: value === view.state }, name)));
  const clear = h("button", { type: "button", class: "second", click: () => press(clear, clearCache) }, "Clear the cache");
  const place = h("div", { class: "card" }, h("p", { class: "empty" }, "Loading …"));
  const pager = h("nav", { class: "row spread", "aria-label": "Pages of businesses" });
  put(page,
    h("form", { class: "toolbar", role: "search", submit: (event) => event.preventDefault() },
      h("div", {}, h("label", { for: "words" }, "Find"), field),
      h("div", {}, h("label", { for: "state" }, "Show"), choice), clear),
    place, pager);

  async function load() {
    const wanted = JSON.stringify(view);
    const found = await getJson("/console/api/businesses", view);
    if (wanted !== JSON.stringify(view)) return; // the operator has typed on meanwhile
    draw(found);
    const numbers = found.items.flatMap((one) => one.phone_number_ids);
    if (numbers.length) drawActivity(await getJson(`/console/api/businesses/activity?${query(numbers)}`));
  }

  function draw({ items, total, page: number, per_page: size, more }) {
    if (items.length) put(place, table("Businesses", columns(load), items));
    else put(place, h("p", { class: "empty" }, total || view.words || view.state !== "all" ? "No business is like that."
      : ["No businesses yet. ", h("code", {}, "whatsapp-hub business add"), " makes one."]));
    const first = (number - 1) * size + 1;
    const turn = (name, to) => h("button", { type: "button", class: "second", disabled: !to, click: () => go({ page: to }) }, name);
    put(pager, h("span", { class: "muted" }, total ? `${count(first)}–${count(first + items.length - 1)} of ${count(total)}` : ""),
      total > size && h("span", { class: "row" }, turn("Previous", number > 1 && number - 1), turn("Next", more)));
  }

  function go(changes) {
    Object.assign(view, changes);
    const { words, state, page: number } = view;
    const set = Object.entries({ words, state: state === "all" ? "" : state, page: number > 1 ? number : "" });
    const address = new URLSearchParams(set.filter(([, value]) => value)).toString();
    history.replaceState(null, "", address ? `?${address}` : location.pathname);
    return press(h("button"), load);
  }

  // Who is about to press a button in the table is not to lose it.
  keepDoing(() => place.contains(document.activeElement) ? null : load(), EVERY_S);
}

function readAddress() {
  const asked = new URLSearchParams(location.search);
  const state = asked.get("state");
  return { words: asked.get("words") ?? "", state: state in SHOWN ? state : "all", page: Number(asked.get("page")) || 1 };
}

function columns(load) {
  return [
    { title: "Business", cell: (one) => [one.name, h("span", { class: "sub" }, one.business)] },
    { title: "State", cell: standing },
    { title: "Access token", cell: token },
    { title: "Messages", number: true, cell: (one) => h("span", { "data-messages": one.phone_number_ids.join(" ") }, "…") },
    { title: "Last answered", cell: (one) => h("span", { "data-last": one.phone_number_ids.join(" ") }, "…") },
    { title: "", cell: (one) => switchOf(one, load) },
  ];
}

function standing(one) {
  const [look, name] = STATES[one.state];
  return [h("span", { class: `badge ${look}` }, name),
    one.why && h("span", { class: "sub why" }, `${one.why}. ${one.next ?? ""} `, one.command && h("code", {}, one.command))];
}

function token(one) {
  if (!one.token_expires_at) return h("span", { class: "muted" }, "no end known");
  const left = Date.parse(one.token_expires_at) - Date.now();
  const words = `${left > 0 ? "expires" : "expired"} ${relative(one.token_expires_at)}`;
  return h("time", { datetime: one.token_expires_at, title: moment(one.token_expires_at), class: left < SOON_MS && "soon" }, words);
}

function switchOf(one, load) {
  const verb = one.switched_on ? "Pause" : "Resume";
  const button = h("button", { type: "button", class: "second small", "aria-label": `${verb} ${one.name}`,
    click: () => press(button, async () => {
      if (one.switched_on && !await ask(`Pause ${one.name}?`, "Messages that come meanwhile are stored and not answered, now"
        + " or later.", "Pause")) return;
      await postJson("/console/api/businesses/switch", { business: one.business, on: !one.switched_on });
      announce(`${one.name} is ${one.switched_on ? "paused" : "answered again"}.`);
      await load();
    }) }, verb);
  return button;
}

async function clearCache() {
  await postJson("/console/api/cache/clear");
  announce("The cache is cleared, at every process. Businesses are read anew with their next message.");
}

function query(numbers) {
  return new URLSearchParams(numbers.map((number) => ["number", number])).toString();
}

function drawActivity({ items, days }) {
  const of = (numbers) => items.filter((item) => numbers.split(" ").includes(item.phone_number_id));
  for (const cell of document.querySelectorAll("[data-messages]")) {
    const counts = of(cell.dataset.messages).map((item) => item.messages);
    const sum = counts.reduce((all, one) => all + one, 0);
    cell.title = `in the last ${days} days`;
    cell.textContent = counts.includes(null) ? "–" : `${count(sum)}${counts.some((one) => one >= MOST_COUNTED) ? "+" : ""}`;
  }
  for (const cell of document.querySelectorAll("[data-last]")) {
    const shown = of(cell.dataset.last);
    const last = shown.map((item) => item.last_at).filter(Boolean).sort().at(-1);
    put(cell, !last && shown.some((item) => item.messages) ? "not yet" : when(last));
  }
}

let typing = 0;

function later(work) {
  clearTimeout(typing);
  typing = setTimeout(work, TYPING_MS);
}
