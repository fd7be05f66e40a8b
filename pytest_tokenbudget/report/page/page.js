"use strict";
(() => {
  /* Paper has what stands closed on the screen: no one can open it there. */
  const closed = [];
  addEventListener("beforeprint", () => {
    closed.push(...document.querySelectorAll("details.finding:not([open])"));
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of closed.splice(0)) each.open = false;
  });

  const table = document.getElementById("tests");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const form = document.getElementById("filter");
  const words = document.getElementById("words");
  const kind = document.getElementById("kind");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const step = Number(table.dataset.shown);
  const number = new Intl.NumberFormat("en-US");

  const linesOf = (id) => document.getElementById(id).textContent.trim().split("\n").filter(Boolean);

  const parsed = (markup) => {
    const template = document.createElement("template");
    template.innerHTML = markup; // written, and escaped, by the one who wrote this page
    return template.content;
  };

  /* The rows that the page does not show at first are read when somebody looks for them. */
  const rows = [...body.rows];
  const hidden = linesOf("rest");
  let order = rows;
  let limit = step;
  let details = null;
  const total = rows.length + hidden.length;
  const opened = new Map();
  const ready = new Set();

  const readAll = () => {
    if (hidden.length) rows.push(...parsed(hidden.splice(0).join("")).children);
  };

  /* Open a test: its requests go into a row of their own below it. */
  const toggle = (row, button) => {
    const detail = opened.get(row);
    button.setAttribute("aria-expanded", String(!detail));
    if (detail) {
      detail.remove();
      opened.delete(row);
      return;
    }
    const line = document.createElement("tr");
    line.className = "detail";
    const cell = line.insertCell();
    cell.colSpan = heads.length;
    details ??= linesOf("details");
    cell.append(parsed(details[rows.indexOf(row)]));
    row.after(line);
    opened.set(row, line);
  };

  const prepare = (row) => {
    ready.add(row);
    if (!("opens" in row.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const cell = row.cells[0];
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => toggle(row, button));
  };

  /* Show the first rows that hold every word, and are of the chosen kind. */
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, `${row.cells[0].textContent} ${row.dataset.words}`.toLowerCase());
    return texts.get(row);
  };

  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = kind.value.split(" ").filter(Boolean);
    const found = order.filter((row) => wanted.every((word) => textOf(row).includes(word))
      && (kinds.length === 0 || kinds.some((each) => row.dataset.kinds.split(" ").includes(each))));
    const shown = found.slice(0, limit);
    for (const row of shown) if (!ready.has(row)) prepare(row);
    body.replaceChildren(...shown.flatMap((row) => (opened.has(row) ? [row, opened.get(row)] : [row])));
    const all = `${number.format(total)} test${total === 1 ? "" : "s"}`;
    const left = found.length + hidden.length - shown.length;
    const hits = found.length + hidden.length === total ? all : `${number.format(found.length)} of ${all}`;
    count.textContent = left ? `${hits}, the first ${number.format(shown.length)} shown` : hits;
    more.hidden = left === 0;
    // Paper shows the form only to say what is not on it.
    form.classList.toggle("whole", shown.length === total);
  };

  const search = () => {
    readAll();
    limit = step;
    show();
  };

  /* Sort by a column: figures from the greatest, names from the first; what has no figure comes last either way. */
  const keyOf = (row, column, sorting) => {
    const cell = row.cells[column];
    const key = sorting === "text" ? cell.textContent.trim() : cell.dataset.key;
    if (key === "") return null;
    return sorting === "text" ? key : Number(key);
  };

  const compare = (one, other) => (one < other ? -1 : Number(one > other));

  const sort = (head) => {
    readAll();
    const sorting = head.dataset.sort;
    const now = head.getAttribute("aria-sort");
    const descending = now ? now === "ascending" : sorting === "number";
    const column = heads.indexOf(head);
    const keys = new Map(rows.map((row) => [row, keyOf(row, column, sorting)]));
    order = [...rows].sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (a === null || b === null) return Number(a === null) - Number(b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    show();
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head));
  }

  words.addEventListener("input", search);
  kind.addEventListener("change", search);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("some").addEventListener("click", () => {
    readAll();
    limit += step;
    show();
  });
  document.getElementById("all").addEventListener("click", () => {
    readAll();
    limit = total;
    show();
  });
  form.hidden = false;
  show();
})();
