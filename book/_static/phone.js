/* What changes once a page is typeset. On a phone a table that does not fit becomes cards, one a row, each cell under
   its column's name (reading.css). An equation that does not fit scrolls, and only then can be reached by keyboard. The
   place that an address names is shown again. */
"use strict";

(() => {
  const PHONE = window.matchMedia("(max-width: 600px)");

  const nameCells = (table) => {
    const names = [...table.tHead.rows[0].cells].map((heading) => heading.textContent.trim());
    [...table.tBodies].flatMap((body) => [...body.rows]).forEach((row) =>
      [...row.cells].forEach((cell, column) => (cell.dataset.label = names[column] ?? "")));
  };

  const fitTables = () =>
    document.querySelectorAll(".bd-article table.table").forEach((table) => {
      const around = table.parentElement;
      table.classList.remove("cards");
      table.classList.toggle("cards", PHONE.matches && table.tHead !== null && table.scrollWidth > around.clientWidth);
    });

  const fitEquations = () => {
    document.querySelectorAll("div.math mjx-container").forEach((equation) =>
      (equation.tabIndex = equation.scrollWidth > equation.clientWidth ? 0 : -1));
    // The theme cuts what is wider than a line of text.
    document.querySelectorAll("span.math:has(> mjx-container)").forEach((formula) => {
      formula.removeAttribute("tabindex");
      const width = formula.clientWidth;  // 0 in the head of a table of cards
      if (width && formula.firstElementChild.clientWidth > width) { formula.tabIndex = 0; }
    });
  };

  const fit = () => (fitTables(), fitEquations());

  // What is typeset late moves the row that an address names: it is shown again, unless the reader has moved on.
  let moved = false;
  ["wheel", "touchmove", "keydown", "pointerdown"].forEach((event) =>
    window.addEventListener(event, () => (moved = true), { once: true, passive: true }));
  const place = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const showAgain = () => moved || place()?.scrollIntoView();

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".bd-article table.table").forEach((table) => table.tHead && nameCells(table));
    fit();
    window.addEventListener("resize", fit);
    // Widths are those of the typeset page.
    const typeset = () => window.MathJax?.startup?.promise ?? Promise.resolve();
    window.addEventListener("load", () => typeset().then(fit).then(showAgain));
  });
})();
