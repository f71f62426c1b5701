// Draws charts from the JSON beside them, again after each reload; reloads nothing while the page is hidden.
"use strict";

(() => {
  const drawn = new WeakMap();
  const probe = document.createElement("span");

  // A token of the stylesheet as the browser paints it: canvas does not know light-dark().
  function colour(name) {
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const painted = getComputedStyle(probe).color;
    probe.remove();
    return painted;
  }

  // Stripes mark what is not whole yet: today, and what people cannot tell by colour.
  function striped(paint) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const pen = tile.getContext("2d");
    pen.fillStyle = paint;
    pen.fillRect(0, 0, 6, 6);
    pen.strokeStyle = colour("--tblr-bg-surface");
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(-1, 7); pen.lineTo(7, -1); pen.moveTo(-1, 1); pen.lineTo(1, -1); pen.moveTo(5, 7); pen.lineTo(7, 5);
    pen.stroke();
    return pen.createPattern(tile, "repeat");
  }

  function dollars(value) {
    const size = Math.abs(value);
    const digits = size > 0 && size < 0.01 ? { maximumSignificantDigits: 2 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
    return `${value < 0 ? "-" : ""}$${size.toLocaleString("en-US", digits)}`;
  }

  function bars({ series, partial }) {
    return series.map((each) => {
      const paint = colour(each.colour);
      return {
        label: each.name,
        data: each.values.map(Number),
        backgroundColor: each.values.map((_, place) => (place === partial ? striped(paint) : paint)),
        borderColor: colour("--tblr-bg-surface"),
        borderWidth: { top: 1 },
        borderSkipped: false,
        maxBarThickness: 28,
        order: 1,
      };
    });
  }

  function before({ compared, labels }) {
    if (!compared) return [];
    const paint = colour("--faint");
    const line = { type: "line", label: compared.name, data: compared.values.map(Number), borderColor: paint, backgroundColor: paint };
    return [{ ...line, borderDash: [4, 3], borderWidth: 1.5, pointRadius: 0, pointHitRadius: 8, tension: 0.25, stack: "compared", order: 0 }];
  }

  function draw(figure) {
    const canvas = figure.querySelector("canvas");
    const source = figure.querySelector('script[type="application/json"]');
    if (!canvas || !source || !window.Chart) return;
    drawn.get(canvas)?.destroy();
    const found = JSON.parse(source.textContent);
    const text = colour("--faint");
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    const sum = (items) => items.filter((item) => item.dataset.type !== "line").reduce((all, item) => all + item.parsed.y, 0);
    drawn.set(canvas, new Chart(canvas, {
      type: "bar",
      data: { labels: found.labels, datasets: [...before(found), ...bars(found)] },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        onClick: (event, _, chart) => {
          const [hit] = chart.getElementsAtEventForMode(event, "index", { intersect: false }, false);
          if (hit && found.hrefs[hit.index]) window.location.assign(found.hrefs[hit.index]);
        },
        onHover: (event, hits) => { canvas.style.cursor = hits.length ? "pointer" : ""; },
        scales: {
          x: { stacked: true, grid: { display: false }, border: { color: colour("--tblr-border-color") }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 16 } },
          y: { stacked: true, grid: { color: colour("--tblr-border-color") }, border: { display: false }, ticks: { color: text, callback: dollars, maxTicksLimit: 6 } },
        },
        plugins: {
          legend: { position: "bottom", align: "start", labels: { color: text, boxWidth: 10, boxHeight: 10, usePointStyle: false } },
          tooltip: {
            filter: (item) => item.parsed.y !== 0,
            callbacks: {
              title: ([item]) => `${item.label}${item.dataIndex === found.partial ? ", so far" : ""}`,
              label: (item) => ` ${item.dataset.label}: ${dollars(item.parsed.y)}`,
              footer: (items) => `Total: ${dollars(sum(items))}`,
            },
          },
        },
      },
    }));
  }

  const drawAll = (root) => root.querySelectorAll("figure.chart").forEach(draw);

  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:load", (event) => drawAll(event.target));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));

  // "/" leads to the search, as people expect.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.getElementById("search");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  // Tells the service the zone of this browser. Without cookies there is nothing to tell.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const told = () => document.cookie.split("; ").includes(`metering_browser_zone=${zone}`);
  if (zone && !told()) {
    document.cookie = `metering_browser_zone=${zone}; path=/dashboard; max-age=31536000; samesite=lax`;
    if (told() && document.documentElement.dataset.zone === "mine") window.location.reload();
  }

  // One menu is open at a time. Escape or a click elsewhere closes it.
  const drops = () => [...document.querySelectorAll("details.drop[open]")];
  document.addEventListener("click", (event) => drops().forEach((each) => { if (!each.contains(event.target)) each.open = false; }));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    drops().forEach((each) => { each.open = false; each.querySelector("summary").focus(); });
  });

  // Copies the command before the button.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const command = button.previousElementSibling;
    // Browsers have a clipboard only for pages over HTTPS, and on localhost.
    if (!navigator.clipboard) return getSelection().selectAllChildren(command);
    await navigator.clipboard.writeText(command.textContent);
    button.lastChild.textContent = "Copied";
    button.dataset.copied = "";
  });

  // A link to a customer's page has its key in the fragment, which no server sees. It does not stay in the address.
  document.addEventListener("DOMContentLoaded", () => {
    const form = document.querySelector("form.sign-in");
    const key = form && new URLSearchParams(location.hash.slice(1)).get("key");
    if (!key) return;
    history.replaceState(null, "", location.pathname + location.search);
    form.elements.key.value = key;
    form.elements.by.value = "link";
    form.querySelectorAll("[data-by]").forEach((each) => { each.hidden = each.dataset.by !== "link"; });
  });

  // Filters that are not set are not in the address.
  document.addEventListener("formdata", (event) => {
    if (!event.target.matches("[data-without-empty]")) return;
    [...event.formData].filter(([, value]) => !value).forEach(([name]) => event.formData.delete(name));
  });

  // A stream opens beside its list. The address says which one, so that it can be shared, and back closes it.
  document.addEventListener("DOMContentLoaded", () => {
    const sheet = document.getElementById("sheet");
    if (!sheet?.showModal || !window.htmx) return;
    const body = document.getElementById("sheet-body");
    const names = { open_customer: "customer_id", open_stream: "stream_id" };
    const part = "/dashboard/stream/sheet";

    // The address of the part that the page's address opens; null if it opens none.
    const wanted = () => {
      const given = new URL(window.location.href).searchParams;
      if (!given.get("open_customer") || !given.get("open_stream")) return null;
      return `${part}?${new URLSearchParams(Object.entries(names).map(([ours, theirs]) => [theirs, given.get(ours)]))}`;
    };
    const query = (address) => new URL(address, window.location.href).search;
    const rowOf = (address) => [...document.querySelectorAll("a[data-sheet]")].find((each) => query(each.dataset.sheet) === query(address));

    const show = (address, { loaded = false } = {}) => {
      sheet.dataset.shown = address;
      sheet.querySelector(".whole").href = `/dashboard/stream${query(address)}`;
      sheet.removeAttribute("open");
      sheet.showModal();
      if (loaded) return;
      body.textContent = "Loading…";
      htmx.ajax("GET", address, { source: body, target: body, swap: "innerHTML" });
    };
    const follow = () => {
      const address = wanted();
      if (address) show(address);
      else if (sheet.open) sheet.close();
    };

    document.addEventListener("click", (event) => {
      if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      const row = event.target.closest("tr");
      const elsewhere = event.target.closest("a:not([data-sheet]), button, summary, input");
      const link = row?.querySelector("a[data-sheet]");
      if (!link || elsewhere || (getSelection().toString() && !event.target.closest("a"))) return;
      event.preventDefault();
      const address = new URL(window.location.href);
      const given = new URLSearchParams(query(link.dataset.sheet));
      Object.entries(names).forEach(([ours, theirs]) => address.searchParams.set(ours, given.get(theirs)));
      history.pushState({ sheet: true }, "", address);
      show(link.dataset.sheet);
    });
    sheet.addEventListener("click", (event) => {
      if (event.target !== sheet && !event.target.closest(".close")) return;
      event.preventDefault();
      sheet.close();
    });
    sheet.addEventListener("close", () => {
      const row = rowOf(sheet.dataset.shown ?? "");
      if (wanted() && history.state?.sheet) history.back();
      else if (wanted()) history.replaceState(null, "", sheet.dataset.closed);
      row?.focus();
    });
    ["htmx:responseError", "htmx:sendError"].forEach((name) => body.addEventListener(name, () => { body.textContent = "This stream could not be read. Open its page."; }));
    window.addEventListener("popstate", follow);
    if (wanted() && sheet.open) show(wanted(), { loaded: true });
  });

  // What browsers show on hover only, in a tooltip for the keyboard and for fingers as well. Outside of tables each
  // text that has one is a stop of the keyboard; in a table the first is, and arrows lead to the others.
  const tip = Object.assign(document.createElement("div"), { id: "tip", role: "tooltip", popover: "manual" });
  const stops = "[data-tip][tabindex]";
  let described = null;

  function takeTitles(root) {
    root.querySelectorAll("[title]").forEach((each) => {
      each.dataset.tip = each.title;
      each.removeAttribute("title");
      if (each.closest("a, button, summary, label")) return;
      each.tabIndex = each.closest("table")?.querySelector(stops) ? -1 : 0;
    });
  }

  function hideTip() {
    described?.removeAttribute("aria-describedby");
    described = null;
    if (tip.matches(":popover-open")) tip.hidePopover();
  }

  function placeTip() {
    if (!described) return;
    const at = described.getBoundingClientRect();
    const top = at.top - tip.offsetHeight - 4;
    tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${top >= 8 ? top : at.bottom + 4}px`;
  }

  function showTip(element) {
    if (element === described) return;
    hideTip();
    described = element;
    described.setAttribute("aria-describedby", tip.id);
    tip.textContent = element.dataset.tip;
    tip.showPopover();
    placeTip();
  }

  // Where an arrow leads: to the next text that has a tooltip, in the order of the table or in the column.
  function neighbour(element, key) {
    const table = element.closest("table");
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (sideways) {
      const all = [...table.querySelectorAll(stops)];
      return all[all.indexOf(element) + sideways];
    }
    const step = { ArrowUp: -1, ArrowDown: 1 }[key];
    const cell = element.closest("td, th");
    for (let row = cell.parentElement.rowIndex + step; step && table.rows[row]; row += step) {
      const found = table.rows[row].cells[cell.cellIndex]?.querySelector(stops);
      if (found) return found;
    }
    return null;
  }

  document.addEventListener("DOMContentLoaded", () => { document.body.append(tip); takeTitles(document); });
  document.addEventListener("htmx:load", (event) => takeTitles(event.target));
  document.addEventListener("pointerover", ({ target, pointerType }) => {
    const found = pointerType === "mouse" && target.closest("[data-tip]");
    if (found) showTip(found);
    else if (target !== tip) hideTip();
  });
  document.addEventListener("click", ({ target }) => { if (target.closest(stops)) showTip(target.closest(stops)); });
  document.addEventListener("focusin", ({ target }) => {
    const inside = target.matches("a:focus-visible, button:focus-visible") && (target.closest("[data-tip]") ?? target.querySelector("[data-tip]"));
    const found = inside || target.closest(stops);
    if (found) showTip(found);
    else hideTip();
  });
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", placeTip, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
    const next = event.target.matches?.(`table ${stops}`) && event.key.startsWith("Arrow") ? neighbour(event.target, event.key) : null;
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // What a person chooses in a form that applies at once is sent without a button.
  document.addEventListener("change", (event) => {
    if (event.target.closest("form[data-at-once], input[data-at-once]") && event.target.checkValidity()) event.target.form.requestSubmit();
  });

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
