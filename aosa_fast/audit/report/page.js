"use strict";
// The page is whole without this script. It adds filters, sorting and buttons that copy commands, and keeps what was
// chosen in the address: #kind=shortcut&class=3&q=text&sort=classes:accuracy, "-" before a column for the other way.
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const form = document.getElementById("filters");
  const fields = ["kind", "class", "q"];
  const sorted = new Map(); // table -> column, "-" before it from high to low

  // Filters.

  const texts = new Map();
  function textOf(element) {
    if (!texts.has(element)) {
      texts.set(element, all("[data-find]", element).map((part) => part.textContent).join("\n").toLowerCase());
    }
    return texts.get(element);
  }

  function filter() {
    const kind = form.elements.kind.value;
    const wanted = form.elements.class.value;
    const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = { finding: [0, 0], class: [0, 0], row: [0, 0] };
    for (const element of all("[data-filter]")) {
      const { filter: what, kind: own, class: index } = element.dataset;
      const fits =
        (what !== "finding" || !kind || own === kind) &&
        (!wanted || index === wanted) &&
        words.every((word) => textOf(element).includes(word));
      element.hidden = !fits;
      counts[what][0] += fits;
      counts[what][1] += 1;
    }
    const part = ([shown, total], name) => `${shown} of ${total} ${name}`;
    document.getElementById("shown").textContent =
      `${part(counts.finding, "findings")}, ${part(counts.class, "classes")}`;
  }

  // Tables.

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function value(row, column, isNumber) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    if (!isNumber) return text;
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  }

  function sort(table, order) {
    const key = order.replace(/^-/, "");
    const heads = all("thead th", table);
    const column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) return false;
    const isNumber = heads[column].dataset.type === "number";
    const sign = order.startsWith("-") ? -1 : 1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [value(row, column, isNumber), row]);
    rows.sort(([a], [b]) => {
      // What is not known comes last, whichever way.
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (isNumber ? a - b : collator.compare(a, b));
    });
    body.append(...rows.map(([, row]) => row));
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    sorted.set(table.dataset.table, order);
    return true;
  }

  function addSortButtons() {
    for (const table of all("table[data-table]")) {
      for (const head of all("thead th[data-key]", table)) {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        button.addEventListener("click", () => {
          const key = head.dataset.key;
          sort(table, sorted.get(table.dataset.table) === key ? `-${key}` : key);
          remember();
        });
        head.append(button);
      }
    }
  }

  // The address.

  function remember() {
    const state = new URLSearchParams();
    for (const name of fields) if (form.elements[name].value) state.append(name, form.elements[name].value);
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
      for (const name of fields) form.elements[name].value = state.get(name) ?? "";
      // A choice that there is not means all.
      for (const name of ["kind", "class"]) if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
      filter();
      for (const entry of state.getAll("sort")) {
        const at = entry.indexOf(":");
        const table = all("table[data-table]").find((one) => one.dataset.table === entry.slice(0, at));
        if (table) sort(table, entry.slice(at + 1));
      }
      return;
    }
    const target = fragment && document.getElementById(fragment);
    if (!target) return;
    if (target.closest("[hidden]")) {
      for (const name of fields) form.elements[name].value = "";
      filter();
    }
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    const inside = target.querySelector(":scope > details");
    if (inside && target.classList.contains("finding")) inside.open = true;
    target.scrollIntoView();
  }

  // Commands.

  function addCopyButtons() {
    for (const block of all(".command")) {
      const code = block.querySelector("code");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
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
      block.append(button);
    }
  }

  addSortButtons();
  addCopyButtons();
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
  filter();
  follow();
})();
