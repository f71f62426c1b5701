// Draws charts from the JSON beside them, again after each reload; reloads nothing while the page is hidden.
"use strict";

(() => {
  const drawn = new WeakMap();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Fills differ in pattern as well as in colour, for readers who cannot tell the colours apart.
  function fill(place) {
    const paint = colour(`--c${Math.min(place, 6)}`);
    const kind = place % 4;
    if (kind === 0) return paint;
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.fillStyle = paint;
    pen.fillRect(0, 0, 8, 8);
    pen.strokeStyle = pen.fillStyle = colour("--ground");
    pen.lineWidth = 1.5;
    pen.beginPath();
    if (kind === 1) { pen.moveTo(-2, 10); pen.lineTo(10, -2); pen.moveTo(-2, 2); pen.lineTo(2, -2); pen.moveTo(6, 10); pen.lineTo(10, 6); pen.stroke(); }
    if (kind === 2) { pen.arc(4, 4, 1.4, 0, 7); pen.fill(); }
    if (kind === 3) { pen.moveTo(0, 4); pen.lineTo(8, 4); pen.stroke(); }
    return pen.createPattern(tile, "repeat");
  }

  function dollars(value) {
    const size = Math.abs(value);
    const digits = size > 0 && size < 0.01 ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
    return `${value < 0 ? "-" : ""}$${size.toLocaleString("en-US", digits)}`;
  }

  function draw(figure) {
    const canvas = figure.querySelector("canvas");
    const source = figure.querySelector('script[type="application/json"]');
    if (!canvas || !source || !window.Chart) return;
    drawn.get(canvas)?.destroy();
    const { labels, series } = JSON.parse(source.textContent);
    const text = colour("--text");
    const line = colour("--line");
    drawn.set(canvas, new Chart(canvas, {
      type: "bar",
      data: {
        labels,
        datasets: series.map((each, place) => ({
          label: each.name,
          data: each.values.map(Number),
          backgroundColor: fill(place),
          borderColor: colour(`--c${Math.min(place, 6)}`),
          borderWidth: 1,
        })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index" },
        scales: {
          x: { stacked: true, grid: { display: false }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 12 } },
          y: { stacked: true, grid: { color: line }, ticks: { color: text, callback: dollars } },
        },
        plugins: {
          legend: { position: "bottom", labels: { color: text, boxWidth: 14 } },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${dollars(item.parsed.y)}` } },
        },
      },
    }));
  }

  const drawAll = (root) => root.querySelectorAll("figure.chart").forEach(draw);

  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:load", (event) => drawAll(event.target));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));

  // A reloaded part keeps its open details, and does not reload while the page is hidden or has focus inside it.
  let opened = [];
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden || event.target.contains(document.activeElement) && document.activeElement !== event.target) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status >= 400) event.detail.shouldSwap = false;
    opened = [...event.target.querySelectorAll("details[open]")].map((each) => each.closest("[id]")?.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    opened.forEach((id) => document.getElementById(id)?.querySelector("details")?.setAttribute("open", ""));
  });
})();
