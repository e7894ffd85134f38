/* The card of a number: shown on hover, on focus, and by a first tap (a second tap follows the link). Escape closes it.
   The card is in the page, hidden; aria-describedby ties it to its number whether or not this script runs. */
(() => {
  "use strict";
  const MARKED = "a.result[aria-describedby], span.result[aria-describedby], .reported[aria-describedby]";
  const GAP = 6;
  let shown = null;
  let leaving = 0;
  let tapped = null;

  const cardOf = (number) => document.getElementById(number.getAttribute("aria-describedby"));

  function place(number, card) {
    const box = number.getBoundingClientRect();
    const width = card.offsetWidth;
    const height = card.offsetHeight;
    const left = Math.max(GAP, Math.min(box.left, document.documentElement.clientWidth - width - GAP));
    const below = box.bottom + GAP;
    const fits = below + height <= document.documentElement.clientHeight;
    card.style.left = `${left}px`;
    card.style.top = `${fits ? below : Math.max(GAP, box.top - GAP - height)}px`;
  }

  function show(number) {
    window.clearTimeout(leaving);
    if (shown === number) { return; }
    hide();
    const card = cardOf(number);
    if (!card) { return; }
    card.hidden = false;
    place(number, card);
    shown = number;
  }

  function hide() {
    window.clearTimeout(leaving);
    if (shown) { cardOf(shown).hidden = true; }
    shown = null;
  }

  /* A moment's grace, so that the pointer can go from the number to its card and rest there. */
  function leave() {
    window.clearTimeout(leaving);
    leaving = window.setTimeout(hide, 200);
  }

  function start() {
    const numberAt = (event) => event.target instanceof Element ? event.target.closest(MARKED) : null;
    const cardAt = (event) => event.target instanceof Element ? event.target.closest(".result-card") : null;

    document.addEventListener("pointerover", (event) => {
      if (event.pointerType === "touch") { return; }
      const number = numberAt(event);
      if (number) { show(number); } else if (cardAt(event)) { window.clearTimeout(leaving); }
    });
    document.addEventListener("pointerout", (event) => {
      if (event.pointerType !== "touch" && (numberAt(event) || cardAt(event))) { leave(); }
    });
    document.addEventListener("focusin", (event) => {
      const number = numberAt(event);
      if (number) { show(number); } else { hide(); }
    });
    document.addEventListener("focusout", (event) => { if (numberAt(event)) { leave(); } });
    document.addEventListener("pointerdown", (event) => {
      const number = numberAt(event);
      tapped = event.pointerType === "touch" && number && shown !== number ? number : null;
      if (!number && !cardAt(event)) { hide(); }
    });
    document.addEventListener("click", (event) => {
      const number = numberAt(event);
      if (number && number === tapped) {
        event.preventDefault();
        show(number);
      }
      tapped = null;
    });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") { hide(); } });
    document.addEventListener("scroll", () => { if (shown) { place(shown, cardOf(shown)); } }, true);
    window.addEventListener("resize", hide);
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
  }
})();
