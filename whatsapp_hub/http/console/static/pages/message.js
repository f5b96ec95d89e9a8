// One message: what happened to it, step by step, and how long each step took. Goes on live until nothing happens any more.

import { getJson, postJson } from "../api.js";
import { h, put } from "../dom.js";
import { announce, ask, keepDoing, press } from "../frame.js";
import { businessName, conversationPage, customer, customerRevealer, messagePage, revealer, said, standing,
  timeline, upper } from "../stories.js";
import { duration, moment, plural } from "../words.js";

const EVERY_S = 1;
const QUIET_EVERY = 10; // looks are left out between two once the message has ended

export async function show(page) {
  const id = decodeURIComponent(location.pathname.split("/").at(-1));
  const path = `/console/api/messages/${encodeURIComponent(id)}`;
  const head = h("div", { class: "card stack" });
  const what = h("div", {});
  const steps = h("section", { class: "card stack", "aria-labelledby": "steps" });
  let drawn = "";
  let label = "";
  let quiet = 0;

  async function refresh() {
    if (quiet > 0) {
      quiet -= 1;
      return;
    }
    const message = await getJson(path);
    const now = JSON.stringify(message);
    if (now !== drawn) draw(message);
    else if (message.ended && Date.now() - lastMoment(message) > 60_000) quiet = QUIET_EVERY;
    drawn = now;
  }
  function draw(message) {
    if (!head.hasChildNodes()) put(head, ...about(message, path));
    head.querySelector("#stands").replaceChildren(standing(message.standing), ` ${message.standing.words}`);
    put(what, message.dead && whatToDo(message, () => { quiet = 0; }));
    put(steps, h("h2", { id: "steps" }, "What happened"),
      message.reply_s !== null && h("p", {}, "Answered after ", h("strong", {}, duration(message.reply_s)), "."),
      timeline(message),
      message.facts.length > 0 && h("ul", { class: "facts hint" }, ...message.facts.map((fact) => h("li", {}, upper(fact)))),
      h("p", { class: "hint" }, "A filled dot is the hub's own clock; a hollow one is Meta's, which tells whole seconds."));
    if (label && label !== message.standing.label) announce(`Now ${message.standing.label}`);
    label = message.standing.label;
  }

  put(page, head, what, steps);
  await keepDoing(refresh, EVERY_S);
}

function about(message, path) {
  const whom = h("span", {}, customer(message.customer));
  const words = h("div", {});
  const others = message.members.length > 0 && [
    h("dt", {}, "Answers too"),
    h("dd", {}, ...message.members.map((id) => h("a", { class: "id", href: messagePage(id) }, id))),
  ];
  return [
    h("dl", { class: "facts" },
      h("dt", {}, "Stands"), h("dd", { id: "stands" }),
      h("dt", {}, "Customer"), h("dd", { class: "row" }, whom, customerRevealer(message.conversation, whom)),
      h("dt", {}, "Business"), h("dd", {}, businessName(message)),
      h("dt", {}, "Came"), h("dd", {}, moment(message.received_at)),
      h("dt", {}, "Kind"), h("dd", {}, message.kind === "sent" ? "sent by the business itself" : message.kind),
      h("dt", {}, "Id"), h("dd", {}, h("code", { class: "id" }, message.id)),
      ...(others || []),
      message.turn && [h("dt", {}, "Answered with"), h("dd", {}, h("a", { class: "id", href: messagePage(message.turn) }, message.turn))]),
    h("div", { class: "row" },
      revealer("Show what was said", () => postJson(`${path}/words`), (answer) => put(words, said(answer))),
      h("a", { class: "button second small", href: conversationPage(message.conversation) }, "Its conversation")),
    words,
  ];
}

function whatToDo(message, done) {
  const act = (verb) => async () => {
    const { gone } = await postJson(`/console/api/dead-letters/${verb}`, { ids: [message.id] });
    announce(gone.length ? "It was no dead letter any more." : DONE[verb]);
    done();
  };
  const retry = h("button", { type: "button", click: () => press(retry, act("retry")) }, "Retry");
  const discard = h("button", { type: "button", class: "bad", click: () => press(discard, async () => {
    if (await ask("Discard this dead letter?", loss(1 + message.members.length), "Discard")) await act("discard")();
  }) }, "Discard");
  return h("section", { class: "card stack", "aria-labelledby": "todo" },
    h("h2", { id: "todo" }, "It was not answered"), h("p", {}, message.advice), h("div", { class: "row" }, retry, discard));
}

/** Say what is lost by discarding dead letters that stand for so many messages. */
export function loss(messages) {
  return `${plural(messages, "message")} will get no answer: not now, and not by a later retry. What was written can be read here until it expires.`;
}

const DONE = { retry: "Put back. It is answered within seconds.", discard: "Discarded." };

function lastMoment({ steps }) {
  return Math.max(0, ...steps.filter((step) => step.at).map((step) => Date.parse(step.at)));
}
