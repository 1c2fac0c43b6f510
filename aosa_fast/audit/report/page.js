"use strict";
// The page is whole without this script. It adds filters, sorting, verdicts, downloads and buttons that copy commands,
// and keeps what was chosen in the address: #kind=shortcut&class=3&q=text&undecided=1&sort=classes:accuracy, "-" before
// a column for the other way.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const form = document.getElementById("filters");
  const sorted = new Map(); // table -> column, "-" before it from high to low

  function addButton(parent, content, press) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...content);
    button.addEventListener("click", () => press(button));
    parent.append(button);
  }

  // Filters.

  function filter() {
    const { kind, class: wanted, q, undecided } = Object.fromEntries(new FormData(form));
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = { finding: [0, 0], suspect: [0, 0], class: [0, 0], row: [0, 0] };
    for (const element of all("[data-filter]")) {
      const { filter: what, kind: own, class: index } = element.dataset;
      const text = all("[data-find]", element).map((part) => part.textContent).join("\n").toLowerCase();
      const fits =
        (own === undefined || !kind || own === kind) &&
        (what !== "suspect" || !undecided || !decided(element)) &&
        (!wanted || index === wanted) &&
        words.every((word) => text.includes(word));
      element.hidden = !fits;
      counts[what][0] += fits;
      counts[what][1] += 1;
    }
    const part = ([shown, total], name) => `${shown} of ${total} ${name}`;
    document.getElementById("shown").textContent =
      `${part(counts.finding, "findings")}, ${part(counts.suspect, "suspects")}, ${part(counts.class, "classes")}`;
  }

  function choose(state) {
    for (const name of ["kind", "class", "q"]) form.elements[name].value = state.get(name) ?? "";
    form.elements.undecided.checked = state.get("undecided") === "1";
    // A choice that there is not means all.
    for (const select of all("select", form)) if (select.selectedIndex < 0) select.value = "";
    filter();
  }

  // Tables.

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function sort(table, order) {
    const key = order.replace(/^-/, "");
    const heads = all("thead th", table);
    const head = heads.find((one) => one.dataset.key === key);
    if (!head) return;
    const isNumber = head.dataset.type === "number";
    const sign = order.startsWith("-") ? -1 : 1;
    const value = (row) => {
      const cell = row.cells[head.cellIndex];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return isNumber ? parseFloat(text) : text;
    };
    const rows = [...table.tBodies[0].rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      // What is not known comes last, whichever way.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (isNumber ? a - b : collator.compare(a, b));
    });
    table.tBodies[0].append(...rows);
    for (const one of heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    sorted.set(table.dataset.table, order);
  }

  for (const head of all("table[data-table] thead th[data-key]")) {
    addButton(head, head.childNodes, () => {
      const table = head.closest("table");
      const key = head.dataset.key;
      sort(table, sorted.get(table.dataset.table) === key ? `-${key}` : key);
      remember();
    });
  }

  // The address.

  function remember() {
    const state = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...state]) if (!value) state.delete(name);
    for (const [table, order] of sorted) state.append("sort", `${table}:${order}`);
    // Colons and slashes are allowed there, and read better as they are.
    const text = state.toString().replace(/%3A/g, ":").replace(/%2F/g, "/");
    try {
      history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    } catch {
      // Some viewers of files have no address to change.
    }
  }

  function follow() {
    const fragment = location.hash.slice(1);
    if (fragment.includes("=")) {
      const state = new URLSearchParams(fragment);
      choose(state);
      for (const entry of state.getAll("sort")) {
        const at = entry.indexOf(":");
        const table = all("table[data-table]").find((one) => one.dataset.table === entry.slice(0, at));
        if (table) sort(table, entry.slice(at + 1));
      }
      return;
    }
    const target = fragment && document.getElementById(fragment);
    if (!target) return;
    if (target.closest("[hidden]")) choose(new URLSearchParams());
    for (const inside of all(":scope.finding > details", target)) inside.open = true;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target.scrollIntoView();
  }

  // Verdicts, which the browser keeps for this audit.

  const { audit, verdicts: choices } = document.documentElement.dataset;
  const place = `aosa-fast verdicts ${audit}`;
  const kept = new Map(); // id -> { verdict, label }
  const marks = new Map(); // id -> what shows its verdict

  function decided(row) {
    return kept.has(JSON.parse(row.querySelector(".verdict").dataset.clip)[0]);
  }

  function decide(id, label, verdict) {
    if (verdict) kept.set(id, { verdict, label });
    else kept.delete(id);
    for (const mark of marks.get(id) ?? []) mark();
  }

  function entries() {
    return [...kept].map(([id, { verdict, label }]) => ({ id, verdict, label }));
  }

  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify(entries()));
    } catch {
      // Where the browser keeps nothing, there is still the file.
    }
    countDecided();
    filter();
  }

  function countDecided(said = "") {
    const clips = kept.size === 1 ? "clip" : "clips";
    document.getElementById("decided").textContent = said || `${kept.size} ${clips} decided`;
  }

  function take(list) {
    for (const { id, verdict, label } of list) {
      if (typeof id === "string" && JSON.parse(choices).includes(verdict)) {
        decide(id, typeof label === "string" ? label : "", verdict);
      }
    }
  }

  for (const part of all(".verdict")) {
    const [id, label] = JSON.parse(part.dataset.clip);
    part.setAttribute("role", "group");
    part.setAttribute("aria-label", "Verdict");
    for (const choice of JSON.parse(choices)) {
      addButton(part, [choice], () => {
        decide(id, label, kept.get(id)?.verdict === choice ? "" : choice);
        keep();
      });
    }
    const mark = () => {
      for (const button of part.children) {
        button.setAttribute("aria-pressed", String(kept.get(id)?.verdict === button.textContent));
      }
    };
    mark();
    marks.set(id, [...(marks.get(id) ?? []), mark]);
  }

  // Files.

  function save(name, kind, content) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: kind }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // As the report writes suspects.csv: no spreadsheet takes a text for a formula.
  function cell(value) {
    const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r']/, "'$&") : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }

  function suspects() {
    const table = document.querySelector("table[data-table=suspects]");
    const columns = JSON.parse(table.dataset.columns);
    const rows = all("tbody tr:not([hidden])", table).map((row) => {
      const values = JSON.parse(row.dataset.row);
      values[columns.indexOf("verdict")] = kept.get(values[columns.indexOf("id")])?.verdict ?? "";
      return values;
    });
    return [columns, ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  }

  document.getElementById("tools").hidden = false;
  document.getElementById("download")?.addEventListener("click", () => save("suspects.csv", "text/csv", suspects()));
  document.getElementById("save").addEventListener("click", () => {
    save("verdicts.json", "application/json", `${JSON.stringify({ format: 1, audit, verdicts: entries() }, null, 1)}\n`);
  });
  document.getElementById("load").addEventListener("change", async ({ target }) => {
    try {
      take(JSON.parse(await target.files[0].text()).verdicts);
      keep();
    } catch {
      countDecided("That file holds no verdicts.");
    }
    target.value = "";
  });

  // Commands.

  for (const block of all(".command")) {
    addButton(block, ["Copy"], async (button) => {
      const code = block.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        // Without a clipboard, the text is at least selected.
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  }

  form.hidden = false;
  form.addEventListener("input", () => {
    filter();
    remember();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    // The fields are empty only after this event.
    setTimeout(() => {
      filter();
      remember();
    });
  });
  addEventListener("hashchange", follow);
  try {
    take(JSON.parse(localStorage.getItem(place) ?? "[]"));
  } catch {
    // Nothing is kept, or something that this page did not write.
  }
  countDecided();
  filter();
  follow();
})();
