// What every page shares: the banner for what is wrong, what a screen reader is told, and looking again and again.

import { Failure } from "./api.js";
import { h } from "./dom.js";
import { moment, relative } from "./words.js";

const banner = document.getElementById("banner");
const live = document.getElementById("live");

/** Say above the page what is wrong; nothing takes it away again. */
export function warn(text) {
  if (text) banner.textContent = text; // the region is there first, so that it is read out
  banner.hidden = !text;
}

/** Tell a screen reader what has happened. Sparingly: it interrupts. */
export function announce(text) {
  live.textContent = text;
}

/** Make an element for a time: how long ago, and the time itself on hovering. */
export function when(time) {
  return time ? h("time", { datetime: time, title: moment(time) }, relative(time)) : "never";
}

/** Ask the operator before something is done; the promise holds whether to go on. */
export function ask(question, explanation, verb) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "question", close: () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    } }, h("form", { method: "dialog", class: "stack" }, h("h2", { id: "question" }, question), h("p", {}, explanation),
      h("div", { class: "row" }, h("button", { value: "yes" }, verb),
        h("button", { value: "no", class: "second", autofocus: true }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Do something that a button asks for: it is off meanwhile, and what goes wrong is said in the banner. */
export async function press(button, work) {
  button.disabled = true;
  try {
    await work();
    warn(null);
  } catch (error) {
    complain(error);
  } finally {
    button.disabled = false;
  }
}

/** Run `work` now and every few seconds while the page is seen; what goes wrong is said in the banner until it is over. */
export async function keepDoing(work, everyS) {
  for (;;) {
    if (!document.hidden) {
      try {
        await work();
        warn(null);
      } catch (error) {
        complain(error);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, everyS * 1000));
  }
}

/** Show an error of the hub's in the banner; one of our own is a fault of the page. */
export function complain(error) {
  if (!(error instanceof Failure)) console.error(error);
  warn(error instanceof Failure ? error.message : "This page made a mistake; reload it. If it stays, report it.");
}
