/* The card of a number: shown on hover, on focus, and by a first tap (a second tap follows the link). Escape closes it.
   The card is in the page, hidden; aria-describedby ties it to its number whether or not this script runs.
   That of a term, an equation or a proposition is made when its link is first hovered or focused, from the page that holds it; in a
   book that is opened as a file a browser reads no second page, and the link is a link alone. */
(() => {
  "use strict";
  const MARKED = "a.result[aria-describedby], span.result[aria-describedby], .reported[aria-describedby]";
  const LINKED = ".bd-article a.reference.internal[href*='#']:not([title])";
  const SHOWN = "dt, div.math, .proof";
  const GAP = 6;
  const pages = new Map();
  let shown = null;
  let wanted = null;
  let leaving = 0;
  let tapped = null;

  const cardOf = (number) => document.getElementById(number.getAttribute("aria-describedby"));

  async function read(address) {
    if (address === window.location.href.split("#")[0]) { return document; }
    const text = await (await fetch(address)).text();
    return new DOMParser().parseFromString(text, "text/html");
  }

  async function make(link) {
    wanted = link;
    const [address, id] = link.href.split("#");
    if (!pages.has(address)) { pages.set(address, read(address).catch(() => null)); }
    const found = (await pages.get(address))?.getElementById(id);
    if (!found?.matches(SHOWN) || cardOf(link)) { return; }
    const copy = (found.matches("dt") ? found.nextElementSibling : found).cloneNode(true);
    [copy, ...copy.querySelectorAll("[id]")].forEach((part) => part.removeAttribute("id"));
    copy.querySelectorAll(".headerlink").forEach((mark) => mark.remove());
    const card = document.createElement("div");
    card.className = "result-card";
    card.id = `preview-${document.querySelectorAll(".result-card").length}`;
    card.hidden = true;
    card.append(copy);
    document.body.append(card);
    link.setAttribute("aria-describedby", card.id);
    await window.MathJax?.typesetPromise?.([card]);
    if (wanted === link) { show(link); }
  }

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
    if (!card) { return void make(number); }
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
    wanted = null;
    window.clearTimeout(leaving);
    leaving = window.setTimeout(hide, 200);
  }

  function start() {
    const anyOf = (event, what) => event.target instanceof Element ? event.target.closest(what) : null;
    const numberAt = (event) => anyOf(event, event.pointerType === "touch" ? MARKED : `${MARKED}, ${LINKED}`);
    const cardAt = (event) => anyOf(event, ".result-card");

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
