// Figures and times in words.

const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const dates = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Write a count: 12,345. */
export function count(value) {
  return counts.format(value);
}

/** Write a count with its noun: 1 message, 2 messages. */
export function plural(value, noun, nouns = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : nouns}`;
}

/** Write a duration in seconds: 12 ms, 1.4 s, 3 min 5 s, 2 h 10 min, 4 days. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${count(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : count(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${count(seconds / 86400)} days`;
}

/** Write how far a time is from now: 3 minutes ago, in 5 days. Times are texts as the hub writes them. */
export function relative(time) {
  if (!time) return "never";
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const far = plural(Math.floor(Math.abs(seconds) / length), unit);
  if (Math.abs(seconds) < 1) return "now";
  return seconds < 0 ? `${far} ago` : `in ${far}`;
}

/** Write a time: Mar 4, 2026, 12:30:05 PM. */
export function moment(time) {
  return time ? dates.format(new Date(time)) : "–";
}

/** Write how often something happens in a second: 0, 0.4, 12. */
export function rate(value) {
  return value === 0 || value >= 10 ? count(value) : value.toFixed(value < 0.1 ? 2 : 1);
}
