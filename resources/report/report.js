"use strict";
// Figures stand in the page as SVG already. Where scripts run they become interactive, one by one as they come into view,
// and where the page is narrow their panels go below each other. Nothing here is needed to read the page.

const saved = (name, type, content) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
};

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay numbers.
const csvOf = (columns, rows) => {
  const plain = (value) => (typeof value === "string" && /^(\s*[=+\-@＝＋－＠]|[\t\r\n])/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : String(value));
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => (value === null || value === undefined ? "" : quoted(plain(value)));
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
};

const specification = (name) => JSON.parse(document.getElementById(`spec-${name}`).textContent);

const SCALED = 1.15;

// Panels below each other, each `limit` pixels wide.
const narrowed = (node, limit) => {
  if (Array.isArray(node)) return node.map((item) => narrowed(item, limit));
  if (node === null || typeof node !== "object") return node;
  const copy = {};
  for (const [key, value] of Object.entries(node)) {
    if (key === "datasets" || key === "data") copy[key] = value;
    else if (key === "columns" && typeof value === "number") copy[key] = 1;
    else if (key === "width" && typeof value === "number" && value >= 60) copy[key] = limit;
    else copy[key] = narrowed(value, limit);
  }
  return copy;
};

const embed = async (chart) => {
  const whole = specification(chart.dataset.figure);
  const room = chart.clientWidth;
  // A little too wide is scaled, as the SVG was; much too wide means a phone.
  let limit = Number(chart.dataset.width) > room * SCALED ? room - 70 : Infinity;
  for (let attempt = 0; ; attempt++) {
    const target = document.createElement("div");
    const spec = limit === Infinity ? whole : narrowed(whole, limit);
    if (limit !== Infinity) Object.assign(spec.config.legend, { columns: 3, layout: { bottom: { direction: "vertical" } } });
    const { view } = await vegaEmbed(target, spec, { renderer: "svg", actions: false, tooltip: { theme: "knowshift", disableDefaultStyle: true } });
    const over = Number(target.querySelector("svg").getAttribute("width")) - room;
    if (over > (limit === Infinity ? room * (SCALED - 1) : 0) && limit > 130 && attempt < 3) {
      view.finalize();
      limit = Math.max(120, Math.min(limit, room) - over - 1);
      continue;
    }
    chart.view?.finalize();
    chart.view = view;
    chart.replaceChildren(target);
    chart.dataset.state = "live";
    return;
  }
};

const failed = (chart) => (error) => {
  chart.dataset.state = "failed"; // the SVG stays
  console.error(`figure ${chart.dataset.figure}:`, error);
};

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) {
        seen.unobserve(target);
        embed(target).catch(failed(target));
      }
  },
  { rootMargin: "400px" },
);
const charts = [...document.querySelectorAll("[data-figure]")];
charts.forEach((chart) => seen.observe(chart));

let width = innerWidth;
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (innerWidth === width) return;
    width = innerWidth;
    for (const chart of charts) if (chart.dataset.state === "live") embed(chart).catch(failed(chart));
  }, 200);
});

// Files of figures show the whole figure on white, whatever the page looks like.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-save]");
  if (!button) return;
  const name = button.dataset.of;
  const spec = specification(name);
  if (button.dataset.save === "csv") {
    const rows = Object.values(spec.datasets).reduce((most, rows) => (rows.length > most.length ? rows : most), []);
    const columns = [...new Set(rows.flatMap(Object.keys))];
    saved(`${name}.csv`, "text/csv", csvOf(columns, rows.map((row) => columns.map((column) => row[column]))));
    return;
  }
  const { view } = await vegaEmbed(document.createElement("div"), spec, { renderer: "svg", actions: false });
  if (button.dataset.save === "svg") saved(`${name}.svg`, "image/svg+xml", await view.toSVG());
  else saved(`${name}.png`, "image/png", bytesOf((await view.toImageURL("png", 2)).split(",")[1]));
  view.finalize();
});

// The table of facts: columns packed as gzip, unpacked when the page is idle, drawn a page at a time.
const PAGE = 20;
const unpack = async (id) => {
  const stream = new Blob([bytesOf(document.getElementById(id).textContent.trim())]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

const startFacts = async (root) => {
  const { columns, titles, values, texts, right } = await unpack("answers-data");
  const count = values[columns[0]].length;
  const at = (column, row) => (texts[column] ? texts[column][values[column][row]] : values[column][row]);
  const body = root.querySelector("tbody");
  const [previous, next] = root.querySelectorAll(".pager button");
  const status = root.querySelector("[data-status]");
  const controls = [...root.querySelectorAll("[data-filter]")];
  const search = root.querySelector("[data-search]");
  let haystack = null;
  let shown = [];
  let page = 0;
  for (const control of controls)
    for (const text of [...texts[control.dataset.filter]].sort((a, b) => String(a).localeCompare(String(b), undefined, { numeric: true })))
      control.append(new Option(text, text));

  const draw = () => {
    const rows = shown.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
      const line = document.createElement("tr");
      columns.forEach((column, index) => {
        const cell = line.insertCell();
        const value = at(column, row);
        cell.dataset.title = titles[index];
        cell.textContent = value === null || value === undefined ? "–" : String(value);
        if (right[column]) cell.className = at(right[column], row) ? "right" : "miss";
      });
      return line;
    });
    body.replaceChildren(...rows);
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    status.textContent = `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} rows, page ${page + 1} of ${pages}`;
    previous.disabled = page === 0;
    next.disabled = page + 1 >= pages;
  };
  const filter = () => {
    const wanted = controls.filter((control) => control.value).map((control) => {
      const column = control.dataset.filter;
      return [values[column], texts[column].findIndex((text) => String(text) === control.value)];
    });
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length && !haystack) haystack = Array.from({ length: count }, (_, row) => columns.map((column) => at(column, row) ?? "").join("\n").toLowerCase());
    shown = [];
    for (let row = 0; row < count; row++)
      if (wanted.every(([column, index]) => column[row] === index) && words.every((word) => haystack[row].includes(word))) shown.push(row);
    page = 0;
    draw();
  };
  let typing;
  controls.forEach((control) => control.addEventListener("change", filter));
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(filter, 120);
  });
  previous.addEventListener("click", () => (page--, draw()));
  next.addEventListener("click", () => (page++, draw()));
  root.querySelector("[data-save-facts]").addEventListener("click", () => {
    saved("facts.csv", "text/csv", csvOf(titles, shown.map((row) => columns.map((column) => at(column, row)))));
  });
  filter();
  root.dataset.state = "live";
};
const facts = document.getElementById("facts");
if (facts) startFacts(facts).catch((error) => console.error("table of facts:", error));
