/* Paper is white: a page read in the dark theme is printed in the light one. (Without scripts there is no dark theme.) */
"use strict";

(() => {
  const root = document.documentElement;
  let read = null;

  const toPaper = () => {
    read ??= root.dataset.theme;
    root.dataset.theme = "light";
  };
  const toScreen = () => {
    if (read) root.dataset.theme = read;
    read = null;
  };

  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", toScreen);
  window.matchMedia("print").addEventListener("change", (event) => (event.matches ? toPaper() : toScreen()));
})();
