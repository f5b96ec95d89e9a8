// One conversation: its messages as a chat, without words until they are asked for.

import { getJson, postJson } from "../api.js";
import { h, put } from "../dom.js";
import { keepDoing } from "../frame.js";
import { businessName, customer, customerRevealer, messagePage, revealer, said, standing } from "../stories.js";
import { duration, moment, plural } from "../words.js";

const EVERY_S = 5;

export async function show(page) {
  const reference = location.pathname.split("/").at(-1);
  const words = new Map(); // by message, in this page only
  const head = h("div", { class: "card stack" });
  const list = h("ol", { class: "chat" });
  let drawn = "";

  async function refresh() {
    const answer = await getJson(`/console/api/conversations/${reference}`);
    if (!head.hasChildNodes()) put(head, ...about(answer));
    const now = JSON.stringify([answer.items, words.size]);
    if (now === drawn) return;
    drawn = now;
    put(list, ...answer.items.map((item) => line(item, words.get(item.id))));
  }
  function about(answer) {
    const whom = h("span", {}, customer(answer.customer));
    const ids = () => answer.items.map((item) => item.id);
    return [
      h("dl", { class: "facts" },
        h("dt", {}, "Customer"), h("dd", { class: "row" }, whom, customerRevealer(reference, whom)),
        h("dt", {}, "Business"), h("dd", {}, businessName(answer)),
        h("dt", {}, "Kept"), h("dd", {}, plural(answer.items.length, "message"))),
      answer.items.length > 0 && h("div", { class: "row" },
        revealer("Show what was said", () => postJson(`/console/api/conversations/${reference}/words`, { ids: ids() }), ({ items }) => {
          for (const one of items) words.set(one.id, one);
          refresh();
        }),
        h("span", { class: "hint" }, "Shown on this page only; who asked is noted in the log.")),
    ];
  }

  put(page, head, h("div", { class: "card" }, list));
  await keepDoing(refresh, EVERY_S);
}

function line(item, words) {
  const name = item.kept
    ? h("a", { href: messagePage(item.id) }, KINDS[item.kind] ?? `${item.kind} message`)
    : h("span", {}, KINDS[item.kind] ?? item.kind);
  return h("li", {},
    h("div", { class: "row spread" },
      h("span", { class: "row" }, name, standing(item.standing)),
      h("span", { class: "hint" },
        item.reply_s !== null && `answered after ${duration(item.reply_s)} · `,
        h("time", { datetime: item.received_at ?? "" }, moment(item.received_at)))),
    words && said(words));
}

const KINDS = { text: "Text", audio: "Audio", image: "Picture", video: "Video", sticker: "Sticker", reaction: "Reaction",
  sent: "Sent by the business", location: "Location", document: "Document", interactive: "Choice", button: "Choice" };
