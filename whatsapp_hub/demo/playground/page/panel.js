// The sums, the switches and the dead letters.

import { $, element, setData, setText } from "./dom.js";
import { act, state } from "./stream.js";

const SUMS = {
  written: "written",
  acknowledged: "acknowledged",
  answered: "answered",
  dead: "dead letters",
  lost: "lost",
  twice: "answered twice",
};
const MOST_DOTS = 300;
// What a switch does, in words, and whether that is good news.
const GRAPH = {
  works: ["Graph works again. What waited goes out by itself.", "good"],
  down: ["Graph answers 503. Replies are decided and stored; each is tried again until it gets through.", "bad"],
  token: ["Meta refuses all tokens. The businesses are held: nothing is tried in vain, nothing is dropped.", "bad"],
  undeliverable: ["The next reply will be refused for good. Write something: it becomes a dead letter.", "bad"],
};
const RENEWED = ["The businesses have new tokens. What was held goes out by itself.", "good"];
const ARMED = ["The hub will die when Graph has taken the next reply and before it can say so. Write something.", "bad"];
const STOPPED = ["The database is stopped. Nothing is acknowledged now: Meta keeps it, and posts it again.", "bad"];
const FLOODED = ["50 messages, and kill -9 in the middle of the fourth reply.", "bad"];
let sums = null;
let report = () => {};

export function openPanel(onFault) {
  report = onFault;
  const press = (id, name, wanted, news = []) =>
    $(id).addEventListener("click", async () => tell(await act(name, wanted), news));
  press("burst", "burst", { kill: true }, FLOODED);
  press("crowd", "burst", {});
  press("kill-now", "kill", { when: "now" });
  press("kill-sending", "kill", { when: "sending" }, ARMED);
  press("pause-database", "pause-database", {}, STOPPED);
  $("slow").addEventListener("change", async (event) => report(await act("slow", { on: event.target.checked })));
  $("graph").addEventListener("change", async (event) => {
    const renews = state.switches.graph === "token" && event.target.value === "works";
    tell(await act("graph", { to: event.target.value }), renews ? RENEWED : GRAPH[event.target.value]);
  });
}

function tell(fault, news) {
  if (fault) report(fault);
  else report(...news);
}

export function drawPanel() {
  drawSums();
  drawDots();
  drawSwitches();
  drawDead();
}

function drawSums() {
  if (!sums) {
    sums = new Map();
    for (const [name, words] of Object.entries(SUMS)) {
      const value = element("dd", { text: "0" });
      sums.set(name, value);
      $("sums").append(element("div", { "data-sum": name }, element("dt", { text: words }), value));
    }
  }
  for (const [name, value] of sums) {
    setText(value, String(state.sums[name]));
    setData(value.parentNode, "zero", String(state.sums[name] === 0));
  }
}

function drawDots() {
  const shown = [...state.messages.values()].filter((message) => !message.refused).slice(-MOST_DOTS);
  const dots = $("dots");
  while (dots.childElementCount > shown.length) dots.lastChild.remove();
  while (dots.childElementCount < shown.length) dots.append(element("i"));
  shown.forEach((message, index) => setData(dots.children[index], "state", stateOf(message)));
  dots.setAttribute("aria-label", `One dot for each message: ${state.sums.answered} of ${state.sums.written} answered`);
}

function stateOf(message) {
  if (message.answered) return "answered";
  if (message.state === "dead") return "dead";
  return message.acked ? "acked" : "written";
}

function drawSwitches() {
  const { graph, slow, killsOnSend, databaseAway, canPauseDatabase } = state.switches;
  const chosen = document.querySelector(`#graph input[value="${graph}"]`);
  if (!chosen.checked) chosen.checked = true;
  $("slow").checked = slow;
  $("kill-sending").setAttribute("aria-pressed", String(killsOnSend));
  setText($("kill-sending"), killsOnSend ? "Armed: at the next send" : "Kill it while it sends");
  $("pause-database").disabled = !canPauseDatabase || databaseAway;
  setText($("pause-database"), databaseAway ? "The database is stopped" : "Stop the database 5 s");
  setData(document.body, "graph", graph);
}

function drawDead() {
  const dead = [...state.messages.values()].filter((message) => message.state === "dead");
  $("dead").hidden = dead.length === 0;
  const list = $("dead-list");
  const kept = new Set(dead.map((message) => message.id));
  for (const item of [...list.children]) if (!kept.has(item.dataset.id)) item.remove();
  const there = new Set([...list.children].map((item) => item.dataset.id));
  for (const message of dead.filter((one) => !there.has(one.id))) {
    const retry = element("button", {
      type: "button",
      text: "Retry",
      onclick: async () => report(await act("retry", { id: message.id })),
    });
    retry.setAttribute("aria-label", `Retry “${message.text.slice(0, 40)}”`);
    const words = element("div", {}, element("strong", { text: message.text }), element("p", { text: message.note }));
    list.append(element("li", { "data-id": message.id }, words, retry));
  }
}
