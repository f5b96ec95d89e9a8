// Every page is the same frame: the path says what goes into it.

import { complain } from "./frame.js";

const PAGES = {
  "/console": ["Overview", "./pages/overview.js"],
  "/console/businesses": ["Businesses", "./pages/businesses.js"],
  "/console/conversations": ["Conversations", "./pages/conversations.js"],
  "/console/dead-letters": ["Dead letters", "./pages/dead-letters.js"],
  "/console/search": ["Search", "./pages/search.js"],
};

const [title, path] = PAGES[location.pathname];
document.title = `${title} · WhatsApp Hub`;
document.getElementById("title").textContent = title;
document.querySelector(`nav a[href="${location.pathname}"]`).setAttribute("aria-current", "page");

try {
  const page = await import(path);
  await page.show(document.getElementById("page"));
} catch (error) {
  complain(error);
}
