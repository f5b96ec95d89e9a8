// Every page is the same frame: the path says what goes into it.

import { complain } from "./frame.js";
import { setUpSearch } from "./find.js";

const PAGES = {
  "/console": ["Overview", "./pages/overview.js"],
  "/console/businesses": ["Businesses", "./pages/businesses.js"],
  "/console/conversations": ["Conversations", "./pages/conversations.js"],
  "/console/dead-letters": ["Dead letters", "./pages/dead-letters.js"],
  "/console/search": ["Search", "./pages/search.js"],
};
// Pages of one thing, below the page that lists them.
const DEEP_PAGES = [
  ["/console/conversations/", "Conversation", "./pages/conversation.js", "/console/conversations"],
  ["/console/messages/", "Message", "./pages/message.js", "/console/conversations"],
];

const [title, path, listed] = PAGES[location.pathname]
  ?? DEEP_PAGES.find(([beginning]) => location.pathname.startsWith(beginning)).slice(1);
document.title = `${title} · WhatsApp Hub`;
document.getElementById("title").textContent = title;
const link = document.querySelector(`nav a[href="${listed ?? location.pathname}"]`);
link.setAttribute("aria-current", listed ? "true" : "page");
link.scrollIntoView({ block: "nearest", inline: "center" });
setUpSearch(document.getElementById("find"));

try {
  const page = await import(path);
  await page.show(document.getElementById("page"));
} catch (error) {
  complain(error);
}
