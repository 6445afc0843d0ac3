// The table and the contact sheet of a page of predictions: search, filter, sort, a page at a time.
const { columns, rows } = JSON.parse(document.getElementById("records").textContent);
const state = { page: 0, sorted: -1, down: false, sheet: true };
const perPage = 60;
const find = (name) => document.getElementById(name);
const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

function chosen() {
  const words = find("search").value.toLowerCase();
  const label = find("label").value;
  const found = rows.filter(
    (row) => (label === "" || row.label === label) && (words === "" || row.search.includes(words)),
  );
  if (state.sorted < 0) return found;
  const key = (row) => row.cells[state.sorted];
  const order = (one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    const compared = typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
    return state.down ? -compared : compared;
  };
  return [...found].sort(order);
}

const isText = (column) => typeof rows.find((row) => row.cells[column] !== null)?.cells[column] === "string";
const shown = (value) =>
  value === null ? "" : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : String(value);

function image(row) {
  const link = make("a", "", { href: row.link, target: "_blank" });
  if (row.thumb) link.append(make("img", "", { src: row.thumb, alt: row.cells[0] }));
  return link;
}

function card(row) {
  const figure = make("figure", "");
  const caption = make("figcaption", "");
  caption.append(make("b", shown(row.cells[0])), make("span", row.error || row.label));
  figure.append(row.error ? make("div", "failed", { className: "failed" }) : image(row), caption);
  return figure;
}

function line(row) {
  const tr = make("tr", "");
  row.cells.forEach((cell, column) => {
    const td = make("td", column ? shown(cell) : "", { className: isText(column) ? "words" : "" });
    if (!column && row.link) td.append(make("a", shown(cell), { href: row.link, target: "_blank" }));
    else if (!column) td.append(shown(cell));
    tr.append(td);
  });
  return tr;
}

function draw() {
  const found = chosen();
  const pages = Math.max(1, Math.ceil(found.length / perPage));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const part = found.slice(state.page * perPage, (state.page + 1) * perPage);
  find("sheet").hidden = !state.sheet;
  find("table").hidden = state.sheet;
  if (state.sheet) find("sheet").replaceChildren(...part.map(card));
  else find("body").replaceChildren(...part.map(line));
  find("count").textContent = `${found.length} of ${rows.length}, page ${state.page + 1} of ${pages}`;
  find("before").disabled = state.page === 0;
  find("after").disabled = state.page === pages - 1;
  find("view").textContent = state.sheet ? "Show the table" : "Show the images";
}

const labels = [...new Set(rows.map((row) => row.label))].sort();
find("label").append(...labels.map((label) => make("option", label, { value: label })));
find("head").append(
  ...columns.map((name, column) => {
    const th = make("th", "", { className: isText(column) ? "words" : "" });
    const button = make("button", name, { type: "button" });
    button.addEventListener("click", () => {
      state.down = state.sorted === column && !state.down;
      state.sorted = column;
      for (const other of find("head").children) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      draw();
    });
    th.append(button);
    return th;
  }),
);
const again = (change) => () => {
  change();
  draw();
};
find("search").addEventListener("input", again(() => (state.page = 0)));
find("label").addEventListener("change", again(() => (state.page = 0)));
find("before").addEventListener("click", again(() => (state.page -= 1)));
find("after").addEventListener("click", again(() => (state.page += 1)));
find("view").addEventListener("click", again(() => (state.sheet = !state.sheet)));
draw();
