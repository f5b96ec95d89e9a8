// Finding a message by its id, or a customer by the number. What is looked for stays out of addresses.

import { postJson } from "../api.js";
import { h, put, table } from "../dom.js";
import { announce, complain, press, warn, when } from "../frame.js";
import { keepWanted, wantedLast } from "../find.js";
import { businessChoice, businessName, conversationPage, customer, field, messagePage, standing } from "../stories.js";
import { plural } from "../words.js";

export async function show(page) {
  let business = "";
  const input = h("input", { type: "search", id: "query", autocomplete: "off", spellcheck: "false", maxlength: 300,
    "aria-describedby": "how", value: wantedLast() });
  const button = h("button", {}, "Find");
  const results = h("div", { class: "stack" });

  async function find() {
    const query = input.value.trim();
    keepWanted(query);
    put(results);
    if (!query) return;
    const { messages, conversations } = await postJson("/console/api/search", { query, business });
    put(results, messages.length > 0 && found("Messages", messageTable(messages)),
      conversations.length > 0 && found("Conversations", conversationTable(conversations)),
      messages.length + conversations.length === 0 && nothing(business));
    announce(`${plural(messages.length + conversations.length, "result")}`);
  }

  const choice = await businessChoice("", (name) => { business = name; });
  const form = h("form", { role: "search", "aria-label": "Messages and customers", class: "card stack", submit: (event) => {
    event.preventDefault();
    press(button, find);
  } },
    h("div", { class: "filters" }, field("Message id, phone number, or a customer's id", input), choice, button),
    h("p", { id: "how", class: "hint" },
      "A message's id is Meta's (wamid.…) or the hub's own (api.…). The id of an answer is found where its business is chosen."));
  put(page, form, results);
  if (!input.value) input.focus();
  try {
    await find();
    warn(null);
  } catch (error) {
    complain(error);
  }
}

function found(title, content) {
  return h("section", { class: "card stack" }, h("h2", {}, title), content);
}

function nothing(business) {
  return h("p", { class: "card empty" }, business
    ? "Nothing was found with this business. Look with all businesses, or for another spelling."
    : "Nothing was found. Ids are compared letter by letter; numbers need their country code.");
}

function messageTable(messages) {
  return table("Messages that were found", [
    { title: "Message", cell: (item) => h("a", { class: "id", href: messagePage(item.id) }, item.id) },
    { title: "Customer", cell: (item) => customer(item.customer) },
    { title: "Business", cell: businessName },
    { title: "Came", cell: (item) => when(item.received_at) },
    { title: "Stands", cell: (item) => standing(item.standing) },
  ], messages);
}

function conversationTable(conversations) {
  return table("Conversations that were found", [
    { title: "Customer", cell: (item) => h("a", { href: conversationPage(item.conversation) }, customer(item.customer)) },
    { title: "Business", cell: businessName },
    { title: "Answered", cell: (item) => when(item.updated_at) },
    { title: "Now", cell: (item) => (item.standing ? standing(item.standing) : h("span", { class: "muted" }, "at rest")) },
  ], conversations);
}
