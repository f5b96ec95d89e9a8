// What the hub does at this moment, with the minutes before, and what is wrong with it.

import { getJson } from "../api.js";
import { chart } from "../chart.js";
import { h, put } from "../dom.js";
import { announce, complain, warn } from "../frame.js";
import { count, duration, plural, rate } from "../words.js";

const KEEP = 300; // points, as the hub does
const AGAIN_MS = 2000;

const share = (value) => `${count(value * 100)} %`;
const again = (point) => point.results_per_s.retry;
const refused = (point) => point.results_per_s.hold + point.results_per_s.dead;

const CHARTS = [
  { title: "Messages", hint: "Customers' messages stored, and replies taken by WhatsApp, a second.", format: rate,
    series: [{ name: "in", value: (p) => p.received_per_s }, { name: "out", value: (p) => p.results_per_s.sent }] },
  { title: "Sends by result", hint: "What WhatsApp said to each message sent, a second.", format: rate,
    series: [{ name: "sent", value: (p) => p.results_per_s.sent }, { name: "to be tried again", value: again },
      { name: "refused", value: refused }, { name: "unknown", value: (p) => p.results_per_s.unknown }] },
  { title: "Acknowledging", hint: "From a webhook's arrival to its 200, over half a minute.", format: duration, least: 0.01,
    series: [{ name: "half within", value: (p) => p.ack_p50_s }, { name: "99 % within", value: (p) => p.ack_p99_s }] },
  { title: "Replying", hint: "From a message's arrival to its reply's departure, over half a minute.", format: duration,
    series: [{ name: "half within", value: (p) => p.reply_p50_s }, { name: "99 % within", value: (p) => p.reply_p99_s }] },
  { title: "Waiting", hint: "Messages stored and not yet answered; counted every 5 seconds.", format: count, least: 10,
    series: [{ name: "messages", value: (p) => p.pending }] },
  { title: "Oldest waiting", hint: "How long the oldest of them has waited.", format: duration, least: 10,
    series: [{ name: "age", value: (p) => p.oldest_s }] },
  { title: "Cache of businesses", hint: "Look-ups that needed no database.", format: share, most: 1,
    series: [{ name: "hits", value: (p) => p.hit_rate }] },
];

const TILES = [
  ["Received", (p) => `${rate(p.received_per_s)}/s`, () => "messages"],
  ["Sent", (p) => `${rate(p.results_per_s.sent)}/s`, () => "replies"],
  ["Acknowledged in", (p) => duration(p.ack_p99_s), () => "99 of 100 webhooks"],
  ["Replied in", (p) => duration(p.reply_p50_s), () => "half of the messages"],
  ["Waiting", (p) => count(p.pending), (p) => p.pending ? `the oldest for ${duration(p.oldest_s)}` : "nothing"],
  ["Cache hits", (p) => p.hit_rate === null ? "–" : share(p.hit_rate), (_, s) => `${plural(s.cached, "number")} in memory`],
  ["Dead letters", (_, s) => count(s.dead_letters), () => "given up", "/console/dead-letters"],
  ["Businesses", (_, s) => count(s.switched_on), (_, s) => `switched on, of ${count(s.businesses)}`, "/console/businesses"],
];

/** Show the overview, and keep it up to date. */
export async function show(page) {
  const troubles = h("section", { class: "stack", "aria-labelledby": "troubles" });
  const tiles = TILES.map(tile);
  const charts = CHARTS.map(chart);
  const source = h("p", { class: "hint" });
  put(page, troubles, h("div", { class: "tiles" }, tiles.map(({ element }) => element)),
    h("div", { class: "charts" }, charts.map(({ element }) => element)), source);
  const view = { points: [], state: null };

  function draw() {
    for (const one of charts) one.draw(view.points);
    const last = view.points.at(-1);
    if (last) for (const one of tiles) one.draw(last, view.state);
  }

  function take({ points, state }) {
    view.points = [...view.points, ...points].slice(-KEEP);
    if (state) {
      tellTroubles(troubles, state.troubles, view.state?.troubles);
      source.textContent = `The figures are of ${state.processes === 1 ? "the one process that runs" :
        `all ${state.processes} processes together`}, a second or two ago. Version ${state.version}.`;
      view.state = state;
    }
    draw();
  }

  follow(async () => {
    const all = await getJson("/console/api/overview");
    view.points = [];
    take(all);
  }, take);
}

/** Get everything, then what is new every second; after an interruption begin anew. */
async function follow(begin, take) {
  try {
    await begin();
    warn(null);
  } catch (error) {
    complain(error);
    setTimeout(() => follow(begin, take), AGAIN_MS);
    return;
  }
  const stream = new EventSource("/console/api/overview/stream");
  stream.onmessage = (event) => take(JSON.parse(event.data));
  stream.addEventListener("end", () => { stream.close(); setTimeout(() => follow(begin, take), AGAIN_MS); });
  stream.onerror = () => {
    stream.close();
    warn("The hub does not answer. This page tries again by itself.");
    setTimeout(() => follow(begin, take), AGAIN_MS);
  };
}

function tile([title, value, explain, link]) {
  const figure = h("span", { class: "figure" }, "–");
  const explanation = h("span", { class: "sub" });
  const name = link ? h("a", { href: link }, title) : title;
  const element = h("div", { class: "card tile" }, h("h2", {}, name), figure, explanation);
  return { element, draw: (point, state) => {
    figure.textContent = value(point, state);
    explanation.textContent = explain(point, state);
  } };
}

function tellTroubles(section, troubles, before) {
  if (before && JSON.stringify(before) === JSON.stringify(troubles)) return; // who reads it is not to lose the place
  const heading = h("h2", { id: "troubles" }, troubles.length ? "What needs you" : "All is well");
  const list = troubles.map((one) => h("li", { class: `trouble ${one.level}` },
    h("p", {}, h("b", {}, one.what)),
    h("p", {}, one.next, " ", one.command && h("code", {}, one.command),
      one.page && h("a", { href: one.page }, "Show them"))));
  put(section, heading, troubles.length ? h("ul", { class: "troubles" }, list)
    : h("p", { class: "muted" }, "Webhooks are taken, and every business that is switched on can send."));
  if (before) announce(troubles.length ? `${plural(troubles.length, "thing needs", "things need")} you` : "All is well");
}
