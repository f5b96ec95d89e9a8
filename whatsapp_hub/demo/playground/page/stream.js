// What the playground tells, and what it is asked to do. Nothing here leaves the page's own origin.

export const state = { messages: new Map(), replies: new Map(), hub: null, switches: null, sums: null, console: "" };

export function listen(onUpdate, onLost) {
  const stream = new EventSource("/events");
  stream.onmessage = (event) => {
    const update = JSON.parse(event.data);
    if (update.whole) {
      state.messages.clear();
      state.replies.clear();
    }
    for (const message of update.messages) state.messages.set(message.id, message);
    for (const reply of update.replies) state.replies.set(reply.id, reply);
    const before = state.hub;
    Object.assign(state, { hub: update.hub, switches: update.switches, sums: update.sums, console: update.console });
    onUpdate(update, before);
  };
  stream.onerror = onLost;
}

export async function act(name, wanted = {}) {
  try {
    const answer = await fetch(`/actions/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    return answer.ok ? null : (await answer.json()).error;
  } catch {
    return "The demo does not answer. Is it still running?";
  }
}
