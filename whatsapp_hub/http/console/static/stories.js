// What the pages of single messages share: who talks with whom, where a message stands, its steps, its words.

import { getJson, postJson } from "./api.js";
import { h, put } from "./dom.js";
import { announce, press } from "./frame.js";
import { duration, moment } from "./words.js";

/** Return the address of a message's page. */
export function messagePage(id) {
  return `/console/messages/${encodeURIComponent(id)}`;
}

/** Return the address of a conversation's page. */
export function conversationPage(reference) {
  return `/console/conversations/${reference}`;
}

/** Say where a message stands. */
export function standing({ tone, label, words }) {
  return h("span", { class: `badge ${tone}`, title: words }, label);
}

/** Name a business, or its number where nobody has it. */
export function businessName(item) {
  return item.business ?? `number ${item.phone_number_id}`;
}

/** Name a customer so that people recognise them; a screen reader says the end alone. */
export function customer(outlined) {
  const end = outlined.split(" ").at(-1);
  return h("span", { class: "customer" },
    h("span", { "aria-hidden": "true" }, outlined), h("span", { class: "unseen" }, `customer ending in ${end}`));
}

/** Make a field to choose a business with; `changed` is called with its subdomain, or with "". */
export async function businessChoice(chosen, changed) {
  const { items } = await getJson("/console/api/businesses/names");
  const options = items.map((name) => h("option", { value: name, selected: name === chosen }, name));
  const select = h("select", { id: "business", change: () => changed(select.value) },
    h("option", { value: "" }, "All businesses"), ...options);
  return field("Business", select);
}

/** Put a label above a field. */
export function field(title, input) {
  return h("div", { class: "field" }, h("label", { for: input.id }, title), input);
}

/** Draw the steps of a message as a line from top to bottom: the longer a step took, the longer its piece. */
export function timeline({ steps }) {
  const longest = Math.max(...steps.map((step) => (isOurs(step) ? step.since_s : 0)));
  return h("ol", { class: "steps" }, ...steps.map((step) => stepLine(step, longest)));
}

/** Whether a step's time was the hub's to spend, and is known well: nobody waits for an operator's hand. */
function isOurs(step) {
  return step.since_s !== null && !step.is_rough && step.kind !== "retried";
}

function stepLine(step, longest) {
  const isLongest = longest > NOTABLE_S && isOurs(step) && step.since_s === longest;
  const line = h("li", { class: [step.kind, step.clock, isLongest && "longest"].filter(Boolean).join(" ") },
    step.since_s !== null && h("span", { class: "since" }, howLong(step),
      isLongest && h("span", { class: "unseen" }, ", the longest step")),
    h("span", { class: "what" }, upper(step.words)),
    step.at
      ? h("time", { datetime: step.at, title: `${moment(step.at)}, ${CLOCKS[step.clock]}` }, clockTime(step))
      : h("span", { class: "hint" }, "no time that a calendar has"));
  line.style.setProperty("--length", Math.min(Math.log10(1 + (step.since_s ?? 0) * 100), 4).toFixed(2));
  return line;
}

const NOTABLE_S = 0.05;
const CLOCKS = { hub: "by the hub's clock", meta: "by Meta's clock, to the second", database: "by the database's clock" };

function howLong({ is_rough: isRough, since_s: since }) {
  if (isRough) return since < 1 ? "under 1 s" : duration(Math.round(since)).replace(".0 s", " s");
  return `+${duration(since)}`;
}

function clockTime({ at, clock }) {
  const time = new Date(at);
  const [date, hour] = [time.toLocaleDateString("en-CA"), time.toLocaleTimeString("en-GB")];
  const day = date === new Date().toLocaleDateString("en-CA") ? "" : `${date} `;
  return `${day}${hour}${clock === "meta" ? "" : `.${String(time.getMilliseconds()).padStart(3, "0")}`}`;
}

/** Make a button that shows once what was asked to be hidden; `ask` returns what to show, `words` say what it does. */
export function revealer(words, ask, show) {
  const button = h("button", { type: "button", class: "second small", click: () => press(button, async () => {
    show(await ask());
    button.remove();
    announce("Shown. That was noted in the log.");
  }) }, words);
  return button;
}

/** Make a button that shows a customer's number in the place of its outline. */
export function customerRevealer(reference, place) {
  return revealer("Show number", () => postJson(`/console/api/conversations/${reference}/customer`), (answer) => {
    const also = answer.also.length ? h("span", { class: "sub" }, `also known as ${answer.also.join(", ")}`) : null;
    put(place, isNumber(answer.customer) ? `+${answer.customer}` : answer.customer, also);
  });
}

function isNumber(customer) {
  return /^\d+$/.test(customer);
}

/** Show what was said in a message, as in a chat. */
export function said({ asked, answered }) {
  return h("div", { class: "said" },
    asked && h("p", { class: "bubble asked" }, h("span", { class: "unseen" }, "The customer: "), asked),
    ...answered.map((text) => h("p", { class: "bubble answered" }, h("span", { class: "unseen" }, "The answer: "), text)),
    !asked && !answered.length && h("p", { class: "hint" }, "Nothing was said."));
}

/** Begin words with a capital. */
export function upper(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
}
