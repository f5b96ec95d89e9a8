// To come.

import { h, put } from "../dom.js";

export async function show(page) {
  put(page, h("p", { class: "card empty" }, "Nothing here yet."));
}
