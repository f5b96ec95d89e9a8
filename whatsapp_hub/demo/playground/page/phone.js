// The phone: three chats, of which one is looked at.

import { $, drawing, element, setData, setText, timeOfDay } from "./dom.js";
import { act, state } from "./stream.js";

export const CHATS = [
  { id: "bakery", name: "Crumb & Crust Bakery", short: "Bakery", letter: "C", question: "Do you still have sourdough today?" },
  { id: "bikes", name: "Spokes Bike Repair", short: "Bikes", letter: "S", question: "My rear brake squeals. Can I bring it in tomorrow?" },
  { id: "dentist", name: "Dr. Molar, Dentist", short: "Dentist", letter: "M", question: "Is Friday at half past nine still free?" },
];
const ONE_TICK = "M3 9.5 6.5 13 14 4.5";
const TWO_TICKS = "M1 9.5 4.5 13 12 4.5 M9.5 12.6 10 13 17.5 4.5";
const CLOCK = "M9 2.5a6.5 6.5 0 1 0 .01 0 M9 5.5V9l2.5 1.5";
const TYPING_S = 25;

let chosen = CHATS[0];
let bubbles = new Map();
let tell = () => {};
let onLook = () => {};
const seen = new Map();

export function openPhone(onFault, onChoose) {
  tell = async (name, wanted) => onFault(await act(name, { chat: chosen.id, ...wanted }));
  onLook = onChoose;
  $("chats").append(...CHATS.map(makeTab));
  $("chats").addEventListener("keydown", moveBetweenTabs);
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("text").value.trim();
    $("text").value = "";
    if (text) tell("say", { text });
  });
  $("ask").addEventListener("click", () => tell("say", { text: chosen.question }));
  $("forge").addEventListener("click", () => tell("say", { text: "I am not from Meta", forged: true }));
  for (const button of document.querySelectorAll(".quick [data-action]")) {
    button.addEventListener("click", () => tell(button.dataset.action));
  }
  choose(chosen);
}

export function chosenChat() {
  return chosen.id;
}

export function drawPhone() {
  const entries = entriesOf(chosen.id);
  const log = $("log");
  const wrote = entries.some((entry) => entry.path && !bubbles.has(entry.id));
  const atEnd = wrote || log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  let place = log.firstChild;
  const kept = new Set(entries.map((entry) => entry.id));
  for (const [id, bubble] of bubbles) {
    if (!kept.has(id)) {
      bubble.node.remove();
      bubbles.delete(id);
    }
  }
  for (const entry of entries) {
    const bubble = bubbles.get(entry.id) ?? makeBubble(entry);
    bubble.update(entry);
    if (place === bubble.node) place = place.nextSibling;
    else log.insertBefore(bubble.node, place);
  }
  $("log").classList.toggle("empty", entries.length === 0);
  drawTyping(entries);
  if (atEnd) log.scrollTop = log.scrollHeight;
  drawTabs();
}

function entriesOf(chat) {
  const own = [...state.messages.values()].filter((message) => message.chat === chat);
  const replies = [...state.replies.values()].filter((reply) => reply.chat === chat);
  return [...own, ...replies].sort((one, other) => one.at - other.at);
}

function makeTab(chat) {
  const tab = element("button", { type: "button", id: `tab-${chat.id}`, "data-chat": chat.id });
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "chat");
  tab.append(
    element("span", { className: "avatar", text: chat.letter, "data-chat": chat.id, ariaHidden: "true" }),
    element("span", { className: "tab-name", text: chat.short }),
    element("span", { className: "unread" }),
  );
  tab.addEventListener("click", () => choose(chat));
  return tab;
}

function moveBetweenTabs(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose(CHATS[(CHATS.indexOf(chosen) + step + CHATS.length) % CHATS.length]);
  $(`tab-${chosen.id}`).focus();
}

function choose(chat) {
  chosen = chat;
  for (const each of CHATS) {
    const tab = $(`tab-${each.id}`);
    tab.setAttribute("aria-selected", String(each === chat));
    tab.tabIndex = each === chat ? 0 : -1;
  }
  $("chat").setAttribute("aria-labelledby", `tab-${chat.id}`);
  setText($("name"), chat.name);
  setText($("avatar"), chat.letter);
  setData($("avatar"), "chat", chat.id);
  setText($("ask"), chat.question);
  $("log").dataset.hint = `Write to ${chat.name}, or take a message from below.`;
  bubbles = new Map();
  $("log").replaceChildren();
  drawPhone();
  $("log").scrollTop = $("log").scrollHeight;
  onLook(null);
}

function drawTabs() {
  for (const chat of CHATS) {
    const replies = [...state.replies.values()].filter((reply) => reply.chat === chat.id).length;
    if (chat === chosen || !seen.has(chat.id)) seen.set(chat.id, replies);
    const unread = replies - seen.get(chat.id);
    const badge = $(`tab-${chat.id}`).querySelector(".unread");
    setText(badge, unread > 0 ? `${unread} new` : "");
  }
}

function drawTyping(entries) {
  const now = Date.now() / 1000;
  const types = entries.some(
    (entry) => entry.path && entry.markedRead && !entry.answered && entry.state !== "dead" && now - entry.at < TYPING_S,
  );
  setText($("presence"), types ? "typing…" : "online");
  setData($("presence"), "typing", String(types));
  let dots = $("typing");
  if (types && !dots) {
    dots = element("div", { id: "typing", className: "bubble theirs typing" }, element("i"), element("i"), element("i"));
    dots.setAttribute("aria-hidden", "true");
  }
  if (types) $("log").append(dots);
  else dots?.remove();
}

function makeBubble(entry) {
  const bubble = entry.path ? makeOwn(entry) : makeTheirs(entry);
  bubbles.set(entry.id, bubble);
  return bubble;
}

function makeOwn(entry) {
  const ticks = element("span", { className: "ticks" });
  const note = element("p", { className: "bubble-note", hidden: true });
  const look = element("button", {
    type: "button",
    className: "meta",
    title: "Show the way of this message",
    onclick: () => onLook(entry.id),
  });
  look.append(element("time", { text: timeOfDay(entry.at) }), ticks);
  const node = element("div", { className: "bubble mine", "data-id": entry.id }, ...makeContent(entry), note, look);
  return {
    node,
    update: (message) => {
      drawTicks(ticks, ownTicks(message));
      note.hidden = !message.note;
      setText(note, message.note);
      setData(node, "failed", String(message.refused || message.state === "dead"));
    },
  };
}

function makeContent(entry) {
  if (entry.kind === "image") return [element("img", { src: "/picture.png", alt: "A sunset", width: 240, height: 150 })];
  if (entry.kind === "audio") {
    const bars = Array.from({ length: 22 }, (_, index) => element("i", { "data-height": String((index * 7) % 5) }));
    const wave = element("span", { className: "wave", ariaHidden: "true" }, ...bars);
    return [element("p", { className: "voice" }, drawing("M8 5v14l11-7z"), wave, element("span", { className: "hidden", text: entry.text }))];
  }
  return [element("p", { text: entry.text })];
}

function makeTheirs(entry) {
  const ticks = element("span", { className: "ticks" });
  const meta = element("span", { className: "meta" }, element("time", { text: timeOfDay(entry.at) }), ticks);
  const node = element("div", { className: "bubble theirs", "data-id": entry.id }, element("p", { text: entry.text }), meta);
  for (const [name, title] of entry.buttons) {
    const press = () => tell("press", { name, title, replyTo: entry.id });
    node.append(element("button", { type: "button", className: "choice", text: title, onclick: press }));
  }
  return { node, update: (reply) => drawTicks(ticks, ["taken", "sent", "delivered", "read"][Math.min(reply.rank, 3)]) };
}

function ownTicks(message) {
  if (message.refused) return "refused";
  if (message.markedRead) return "read";
  return message.acked ? "delivered" : message.posts ? "sent" : "waiting";
}

function drawTicks(ticks, rank) {
  if (ticks.dataset.rank === rank) return;
  ticks.dataset.rank = rank;
  const path = { waiting: CLOCK, taken: CLOCK, sent: ONE_TICK, refused: "M9 3v8 M9 14v.5" }[rank] ?? TWO_TICKS;
  ticks.replaceChildren(drawing(path, "0 0 18 18"), element("span", { className: "hidden", text: rank }));
}
