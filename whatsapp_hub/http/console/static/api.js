// Asking the hub. Answers are JSON; an error is `{"error": "a sentence for the operator"}`.

/** What the hub would or could not do; `message` is a sentence for the operator. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return what a route answers; `parameters` that are empty are left out. */
export async function getJson(path, parameters = {}) {
  const wanted = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(wanted).toString();
  return ask(query ? `${path}?${query}` : path);
}

/** Have the hub change something; return what it answers. */
export async function postJson(path, body = {}) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** Go to the page where operators log in, and back here afterwards. */
export function logIn() {
  location.assign(`/console/login?next=${encodeURIComponent(location.pathname)}`);
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Failure(0, "The hub does not answer. Is it running, and is the tunnel to it open?");
  }
  if (response.status === 401) logIn();
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Failure(response.status, sentence(answer?.error ?? `the hub answered ${response.status}`));
  return answer;
}

function sentence(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;
}
