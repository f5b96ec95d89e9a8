// A line chart over the last minutes: a drawing, a legend with the values of now, and the same as a table.

import { h, put, svg, table } from "./dom.js";

const SPAN_S = 300;
const HEIGHT = 100; // of the drawing's own units: it is stretched to its place
const GAP_S = 5;
const TABLE_EVERY_S = 30;

/**
 * Make a chart. `series`: `{name, value: (point) => number or null}`; `format` writes a value; the scale goes to
 * `least` at least, or to just `most`. Returns its element, and `draw(points)`.
 */
export function chart({ title, hint, series, format, least = 1, most = null }) {
  const plot = svg("svg", { viewBox: `0 0 ${SPAN_S} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const scale = h("div", { class: "scale", "aria-hidden": "true" });
  const values = series.map(() => h("b", {}, "–"));
  const legend = h("ul", { class: "legend" }, series.map(({ name }, index) =>
    h("li", {}, svg("svg", { class: "key", viewBox: "0 0 20 4", "aria-hidden": "true" },
      svg("path", { class: `line s${index + 1}`, d: "M0 2H20" })), `${name} `, values[index])));
  const rows = h("div", { class: "rows" });
  const details = h("details", { toggle: () => drawRows() }, h("summary", {}, "As a table"), rows);
  let points = [];

  function drawRows() {
    if (!details.open) return;
    const chosen = points.filter((_, index) => (points.length - 1 - index) % TABLE_EVERY_S === 0).reverse();
    const columns = series.map(({ name, value }) => ({ title: name, number: true, cell: (p) => write(format, value(p)) }));
    const time = { title: "Time", cell: (point) => new Date(point.at * 1000).toLocaleTimeString() };
    put(rows, table(`${title}, every ${TABLE_EVERY_S} seconds`, [time, ...columns], chosen));
  }

  function draw(all) {
    points = all;
    const last = points.at(-1);
    const top = most ?? niceTop(Math.max(least, ...points.flatMap((p) => series.map(({ value }) => value(p) ?? 0))));
    put(scale, h("span", {}, format(top)), h("span", {}, format(top / 2)), h("span", {}, format(0)));
    series.forEach(({ value }, index) => { values[index].textContent = last ? write(format, value(last)) : "–"; });
    put(plot, grid(), series.map(({ value }, index) => lines(points, value, top, index)).reverse().flat());
    plot.setAttribute("aria-label", `${title}, the last 5 minutes. ${series.map((one) => tell(points, one, format)).join(" ")}`);
    if (points.length % TABLE_EVERY_S === 0) drawRows();
  }

  const element = h("section", { class: "card chart" },
    h("h2", {}, title), h("p", { class: "hint" }, hint), legend,
    h("div", { class: "plot" }, scale, plot),
    h("div", { class: "span", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now")), details);
  draw([]);
  return { element, draw };
}

function grid() {
  return [0, 0.5, 1].map((y) => svg("path", { class: "grid", d: `M0 ${y * HEIGHT}H${SPAN_S}` }));
}

function lines(points, value, top, index) {
  const runs = [];
  let before = null;
  for (const point of points) {
    const y = value(point);
    // Nothing is drawn over what was not seen.
    if (y !== null && (before === null || point.at - before >= GAP_S)) runs.push([]);
    if (y !== null) runs.at(-1).push([SPAN_S - (points.at(-1).at - point.at), HEIGHT * (1 - Math.min(1, y / top))]);
    before = y === null ? null : point.at;
  }
  const paths = runs.map((run) => `M${run.map((place) => place.map((one) => one.toFixed(1)).join(" ")).join("L")}`);
  const areas = runs.map((run, n) => `${paths[n]}V${HEIGHT}H${run[0][0].toFixed(1)}Z`);
  return [
    index === 0 && svg("path", { class: "area", d: areas.join("") }),
    svg("path", { class: `line s${index + 1}`, d: paths.join("") }),
  ];
}

function tell(points, { name, value }, format) {
  const seen = points.map(value).filter((one) => one !== null);
  if (!seen.length) return `${name}: nothing yet.`;
  return `${name}: now ${write(format, value(points.at(-1)))}, between ${format(Math.min(...seen))} and ${format(Math.max(...seen))}.`;
}

function write(format, value) {
  return value === null ? "–" : format(value);
}

function niceTop(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * size).find((top) => top >= value);
}
