// The search box in the head of every page. What is looked for may be a phone number: it never gets into an address.

const KEPT = "console.find";

/** Have the box in the head lead to the page of what is found. */
export function setUpSearch(form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = form.querySelector("input").value.trim();
    if (!wanted) return;
    sessionStorage.setItem(KEPT, wanted);
    location.assign("/console/search");
  });
}

/** Return what was last looked for in this tab. */
export function wantedLast() {
  return sessionStorage.getItem(KEPT) ?? "";
}

/** Keep what is looked for, so that going back finds it again. */
export function keepWanted(wanted) {
  sessionStorage.setItem(KEPT, wanted);
}
