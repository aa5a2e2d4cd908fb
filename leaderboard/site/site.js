// Sorting, searching and choosing rows of the tables (DataTables), the tooltips of their heads, light and dark, and the chooser of a
// comparison. Without it every page still says everything, in the order of the table.
(() => {
  "use strict";
  const root = document.documentElement, KEY = "diffbench-theme";
  const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* a page from disk may not be allowed to */ } };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();

  function theme() {
    const button = document.getElementById("theme");
    const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const say = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Use the ${dark() ? "light" : "dark"} colours`); };
    button.hidden = false;
    button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; keep(root.dataset.theme); say(); });
    say();
  }

  // A field without a value stays last, whichever way a column is sorted.
  function order(sign) {
    return (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const numbers = !isNaN(a) && !isNaN(b);
      return sign * (numbers ? a - b : String(a).localeCompare(b));
    };
  }

  function grid(table) {
    const rows = table.tBodies[0].rows.length, long = rows > 200;
    const heads = [...table.tHead.rows[0].cells], sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    const find = rows > 8 || (rows > 5 && heads.some((head) => head.dataset.choices !== undefined));
    const api = new window.DataTable(table, {
      autoWidth: false, order: sorted < 0 ? [] : [[sorted, "desc"]], paging: long, pageLength: 100, searching: rows > 1, info: find,
      columnDefs: [{ targets: "_all", type: "absent-last", orderSequence: ["desc", "asc"] }],
      layout: { topStart: find ? "search" : null, topEnd: find ? "info" : null, bottomStart: null, bottomEnd: long ? "paging" : null },
      language: { search: "Search", info: "_TOTAL_ rows", infoEmpty: "0 rows", infoFiltered: "of _MAX_", zeroRecords: "No row has all of this." },
    });
    const bar = document.createElement("div");
    bar.className = "choices";
    heads.forEach((head, column) => { if (head.dataset.choices !== undefined && rows > 1) choice(api, bar, head, column); });
    if (heads.some((head) => head.classList.contains("more"))) columns(table, bar);
    if (bar.children.length) (api.table().container()).prepend(bar);
    const scroll = document.createElement("div");
    Object.assign(scroll, { className: "scroll", tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", table.getAttribute("aria-label"));
    table.before(scroll);
    scroll.append(table);
  }

  function choice(api, bar, head, column) {
    const cells = api.column(column).nodes().toArray(), name = head.dataset.name;
    const values = [...new Set(cells.map((cell) => cell.dataset.order))].filter(Boolean).sort();
    if (values.length < 2) return;
    const label = document.createElement("label"), select = document.createElement("select");
    select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    select.addEventListener("change", () => {
      const wanted = select.value;
      api.search.fixed(name, wanted ? (_, __, row) => api.cell(row, column).node().dataset.order === wanted : null).draw();
    });
    label.append(name + " ", select);
    bar.append(label);
  }

  function columns(table, bar) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "narrow", textContent: "All columns" });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(table.classList.toggle("whole"))));
    bar.append(button);
  }

  function tips() {
    const tip = document.createElement("div");
    Object.assign(tip, { id: "tip", hidden: true });
    tip.setAttribute("role", "tooltip");
    document.body.append(tip);
    const hide = () => { tip.hidden = true; };
    const show = (head) => {
      tip.textContent = head.dataset.tip;
      tip.hidden = false;
      const at = head.getBoundingClientRect(), width = document.documentElement.clientWidth;
      tip.style.left = `${Math.max(8, Math.min(at.left, width - tip.offsetWidth - 8))}px`;
      tip.style.top = `${at.bottom + 6 + tip.offsetHeight > innerHeight ? Math.max(8, at.top - tip.offsetHeight - 6) : at.bottom + 6}px`;
    };
    for (const head of document.querySelectorAll("th[title]")) {
      head.dataset.tip = head.title;
      head.removeAttribute("title");
      for (const inner of [head, ...head.querySelectorAll("[tabindex]")]) inner.setAttribute("aria-description", head.dataset.tip);
      for (const event of ["mouseenter", "focusin"]) head.addEventListener(event, () => show(head));
      for (const event of ["mouseleave", "focusout"]) head.addEventListener(event, hide);
    }
    addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    addEventListener("scroll", hide, { passive: true, capture: true });
  }

  function chooser(form) {
    form.hidden = false;
    const [first, second] = form.querySelectorAll("select"), known = new Set(JSON.parse(form.dataset.pages));
    const path = () => `compare/${[first.value, second.value].sort().join("/")}.html`;
    const button = form.querySelector("button"), said = form.querySelector("output");
    const check = () => {
      const there = known.has(path());
      button.disabled = !there;
      said.textContent = there ? "" : first.value === second.value ? "Choose two methods that differ." : "This pair has no page; bench leaderboard compare prints it.";
    };
    form.addEventListener("change", check);
    form.addEventListener("submit", (event) => { event.preventDefault(); if (known.has(path())) location.href = form.dataset.root + path(); });
    check();
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    const kind = window.DataTable.ext.type.order;
    kind["absent-last-asc"] = order(1);
    kind["absent-last-desc"] = order(-1);
    document.querySelectorAll("table.grid").forEach(grid);
    tips();
    document.querySelectorAll("form.chooser").forEach(chooser);
    root.dataset.ready = "";
  });
})();
