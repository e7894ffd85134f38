/* Sorts and filters the tables whose cells carry facets (_ext/results_in_text/nodes.py). Without this script they
   are plain tables, whole and in order. A filtered view has an address: index.html?board-verdict=contradicted. */
"use strict";

(() => {
  // The board opens with the claims that decide headlines; the map with everything.
  const OPENING = { board: { kind: "primary" }, posts: {} };

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const collator = new Intl.Collator("en", { numeric: true });

  const facetsOf = (row) => {
    const facets = {};
    row.querySelectorAll("[data-facet]").forEach(({ dataset }) => (facets[dataset.facet] ??= []).push(dataset.value));
    return facets;
  };

  const sortKey = (row, column) => {
    const cell = row.cells[column];
    return cell.querySelector("[data-order]")?.dataset.order ?? cell.textContent.trim().toLowerCase();
  };

  const makeSortable = (table, rows) => {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = element("button", { type: "button", className: "sort" }, ...heading.querySelector("p").childNodes);
      heading.querySelector("p").append(button);
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        rows.sort((a, b) => collator.compare(sortKey(a, column), sortKey(b, column)) * (descending ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  };

  const makeFilters = (table, rows, name) => {
    const all = new Map(rows.map((row) => [row, facetsOf(row)]));
    const facets = [...new Set([...all.values()].flatMap(Object.keys))];
    const query = new URLSearchParams(location.search);
    const asked = facets.some((facet) => query.has(`${name}-${facet}`));
    const selects = {};
    const count = element("output", { className: "shown" });

    const show = () => {
      let shown = 0;
      all.forEach((values, row) => {
        row.hidden = !facets.every((facet) => !selects[facet].value || values[facet]?.includes(selects[facet].value));
        shown += !row.hidden;
      });
      count.textContent = `${shown} of ${rows.length} rows`;
    };

    const remember = () => {
      // The other table's choices stay; an empty choice is written too, or the opening view would come back.
      const kept = new URLSearchParams(location.search);
      facets.forEach((facet) => kept.set(`${name}-${facet}`, selects[facet].value));
      history.replaceState(null, "", `${location.pathname}?${kept}${location.hash}`);
    };

    const form = element("form", { className: "filters", ariaLabel: "Filter the table below" });
    facets.forEach((facet) => {
      const values = [...new Set(rows.flatMap((row) => all.get(row)[facet] ?? []))].sort(collator.compare);
      const id = `${name}-${facet}`;
      selects[facet] = element("select", { id, name: facet }, element("option", { value: "" }, "all"));
      selects[facet].append(...values.map((value) => element("option", { value }, value)));
      selects[facet].value = (asked ? query.get(id) : OPENING[name][facet]) ?? "";
      // An address that names what is not there shows everything rather than nothing.
      if (selects[facet].selectedIndex < 0) selects[facet].value = "";
      form.append(element("label", { htmlFor: id }, `${facet} `, selects[facet]));
    });
    const reset = element("button", { type: "reset" }, "show all");
    form.append(reset, count);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => (show(), remember()));
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      facets.forEach((facet) => (selects[facet].value = ""));
      show();
      remember();
    });
    (table.closest(".pst-scrollable-table-container") ?? table).before(form);
    show();
  };

  document.addEventListener("DOMContentLoaded", () =>
    Object.keys(OPENING).forEach((name) => {
      const table = document.querySelector(`table.${name}`);
      if (!table) return;
      const rows = [...table.tBodies[0].rows];
      makeFilters(table, rows, name);
      makeSortable(table, rows);
    }));
})();
