// Building the page. Data goes in as text nodes and attributes only, so it can never become markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("p", {class: "hint"}, "text", child)`. Functions are listeners: `{click: () => ...}`. */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Make an element of a drawing. */
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

/** Put these in the place of what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter(isThere));
}

/**
 * Make a table that becomes cards on a phone. Columns: `{title, cell: (row) => node or text, number: true}`; the first
 * one names the row, one without a title holds buttons. The roles repeat what the elements mean, since a browser forgets it with the layout.
 */
export function table(caption, columns, rows) {
  const head = columns.map(({ title, number }) =>
    h("th", { scope: "col", role: "columnheader", class: number && "number" }, title || h("span", { class: "unseen" }, "Actions")));
  return h("table", { class: "cards", role: "table" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)),
    h("tbody", { role: "rowgroup" }, ...rows.map((row) => tableRow(columns, row))));
}

function tableRow(columns, row) {
  return h("tr", { role: "row" }, ...columns.map(({ title, number, cell }, index) => {
    const content = h("div", {}, cell(row));
    return index === 0
      ? h("th", { scope: "row", role: "rowheader" }, content)
      : h("td", { role: "cell", "data-label": title || false, class: number && "number" }, content);
  }));
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (isThere(value)) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter(isThere));
  return element;
}

function isThere(value) {
  return value !== null && value !== undefined && value !== false;
}
