"use strict";
// The page is whole without this script. It adds filters, sorting and buttons that copy commands, and keeps what was
// chosen in the address: #kind=shortcut&class=3&q=text&sort=classes:accuracy, "-" before a column for the other way.
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
    const { kind, class: wanted, q } = Object.fromEntries(new FormData(form));
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = { finding: [0, 0], class: [0, 0], row: [0, 0] };
    for (const element of all("[data-filter]")) {
      const { filter: what, kind: own, class: index } = element.dataset;
      const text = all("[data-find]", element).map((part) => part.textContent).join("\n").toLowerCase();
      const fits =
        (what !== "finding" || !kind || own === kind) &&
        (!wanted || index === wanted) &&
        words.every((word) => text.includes(word));
      element.hidden = !fits;
      counts[what][0] += fits;
      counts[what][1] += 1;
    }
    const part = ([shown, total], name) => `${shown} of ${total} ${name}`;
    document.getElementById("shown").textContent =
      `${part(counts.finding, "findings")}, ${part(counts.class, "classes")}`;
  }

  function choose(state) {
    for (const name of ["kind", "class", "q"]) form.elements[name].value = state.get(name) ?? "";
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
  filter();
  follow();
})();
