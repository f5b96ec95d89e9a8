// The playground's page: what is told is drawn, at most once a frame.

import { $, setData, setText } from "./dom.js";
import { drawPanel, openPanel } from "./panel.js";
import { chosenChat, drawPhone, openPhone } from "./phone.js";
import { listen, state } from "./stream.js";
import { drawWay } from "./way.js";

let looked = null; // the message whose way is shown; null: the last one of the chat
let waiting = false;
let diedAt = 0;

function say(words, mood = "bad") {
  if (!words) return;
  setText($("news"), words);
  setData($("news"), "mood", mood);
}

function draw() {
  waiting = false;
  if (!state.hub) return;
  drawPhone();
  drawWay(looked ?? lastOf(chosenChat()));
  drawPanel();
  drawHub();
}

function drawSoon() {
  if (!waiting) {
    waiting = true;
    requestAnimationFrame(draw);
  }
}

function lastOf(chat) {
  const own = [...state.messages.values()].filter((message) => message.chat === chat);
  return own.at(-1)?.id;
}

function drawHub() {
  const { ready, pid, deaths } = state.hub;
  setData($("hub"), "state", ready ? "on" : "off");
  const killed = deaths ? ` · ${deaths} ${deaths === 1 ? "restart" : "restarts"}` : "";
  setText($("hub-words"), ready ? `hub: process ${pid}${killed}` : "the hub is dead");
  $("console").href = state.console;
}

function tellNews(hub, before) {
  if (!before) return;
  if (before.ready && !hub.ready) {
    diedAt = performance.now();
    say("kill -9: the hub is gone. What customers write now waits with Meta; what it had acknowledged lies in the database.");
  }
  if (!before.ready && hub.ready && diedAt) {
    const away = ((performance.now() - diedAt) / 1000).toFixed(1);
    say(`The hub is back after ${away} s, as another process, and takes up what the dead one had begun.`, "good");
  }
}

openPhone(say, (id) => {
  looked = id;
  drawSoon();
});
openPanel(say);
listen(
  (update, before) => {
    const own = update.messages.find((message) => message.chat === chosenChat() && !message.acked);
    if (own && !update.whole) looked = null;
    tellNews(update.hub, before);
    drawSoon();
  },
  () => {
    setData($("hub"), "state", "off");
    setText($("hub-words"), "the demo does not answer");
  },
);
setInterval(drawSoon, 1000);
