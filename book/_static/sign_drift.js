/* The mean step of Lion under Gaussian noise, for a noise and betas that the reader sets (Lion, derivation, step 8).
   Without scripts the text stands, and the figure below it. */
(() => {
  "use strict";
  const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, REACH] = [520, 270, 55, 45, 60, 3];
  const SLIDERS = [["noise", "standard deviation of the gradient's noise", 0.05, 5, 0.05, 1],
    ["beta1", "β₁, share of the momentum in the interpolation", 0, 0.99, 0.01, 0.9],
    ["beta2", "β₂, memory of the momentum", 0, 0.99, 0.01, 0.99]];

  /* Abramowitz and Stegun 7.1.26, wrong by at most 1.5e-7. */
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  }

  /* noise.py has the same: deviation_factor, lion_drift, adamw_drift. */
  const factor = (beta1, beta2) => Math.hypot(1 - beta1, beta1 * Math.sqrt((1 - beta2) / (1 + beta2)));
  const MEAN_STEPS = {
    "Lion": (mean, noise, beta1, beta2) => erf(mean / (Math.SQRT2 * noise * factor(beta1, beta2))),
    "sign of one gradient": (mean, noise) => erf(mean / (Math.SQRT2 * noise)),
    "AdamW": (mean, noise) => mean / Math.hypot(mean, noise),
  };

  const across = (mean) => LEFT + (mean + REACH) / (2 * REACH) * (WIDTH - LEFT - 10);
  const up = (step) => HEIGHT - BOTTOM - (step + 1) / 2 * (HEIGHT - BOTTOM - TOP);

  function add(parent, tag, attributes, text = "") {
    const name = parent.namespaceURI.endsWith("svg") || tag === "svg" ? "http://www.w3.org/2000/svg" : parent.namespaceURI;
    const made = parent.appendChild(document.createElementNS(name, tag));
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.textContent = text;
    return made;
  }

  function drawFrame(svg) {
    for (const step of [-1, 0, 1]) {
      add(svg, "path", { class: "grid", d: `M${LEFT} ${up(step)}H${WIDTH - 10}` });
      add(svg, "text", { x: LEFT - 8, y: up(step) + 4, "text-anchor": "end" }, String(step));
    }
    for (let mean = -REACH; mean <= REACH; mean += 1) {
      add(svg, "text", { x: across(mean), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(mean));
    }
    add(svg, "text", { x: across(0), y: HEIGHT - 8, "text-anchor": "middle" }, "mean of the gradient");
    const middle = `translate(14 ${up(0)}) rotate(-90)`;
    add(svg, "text", { transform: middle, "text-anchor": "middle" }, "mean step / learning rate");
  }

  function start(place) {
    const form = add(place, "form", {});
    const inputs = SLIDERS.map(([name, label, min, max, step, value]) => {
      const row = add(form, "label", {}, label);
      const shown = add(row, "output", {});
      return { shown, input: add(row, "input", { type: "range", name, min, max, step, value }) };
    });
    const drawn = "Mean step against the mean of the gradient, for Lion, the sign of one gradient, and AdamW.";
    const svg = add(place, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": drawn });
    drawFrame(svg);
    const curves = Object.entries(MEAN_STEPS).map(([name, of], number) => {
      add(svg, "path", { class: `curve-${number}`, d: `M${LEFT} ${12 + 16 * number}h30` });
      add(svg, "text", { x: LEFT + 38, y: 16 + 16 * number }, name);
      return { name, of, path: add(svg, "path", { class: `curve-${number}` }) };
    });
    const said = add(place, "p", { "aria-live": "polite" });

    function draw() {
      const settings = inputs.map(({ input }) => Number(input.value));
      inputs.forEach(({ shown, input }) => { shown.textContent = input.value; });
      for (const { of, path } of curves) {
        const points = Array.from({ length: 241 }, (_, place) => (place / 120 - 1) * REACH);
        path.setAttribute("d", `M${points.map((mean) => `${across(mean)} ${up(of(mean, ...settings))}`).join("L")}`);
      }
      const slopes = curves.map(({ name, of }) => `${(of(1e-3, ...settings) / 1e-3).toPrecision(3)} (${name})`);
      said.textContent = `Near zero the mean step is proportional to the mean gradient, by a factor of ${slopes.join(", ")}.`;
    }
    form.addEventListener("input", draw);
    draw();
  }

  const startAll = () => document.querySelectorAll(".sign-drift").forEach(start);
  window.meanSteps = MEAN_STEPS;  // for the test that holds them against noise.py
  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", startAll);
  } else {
    startAll();
  }
})();
