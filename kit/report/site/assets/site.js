// Sorting, filtering and drawing. Pages are complete without it, but for the plots.
"use strict";

// ---- tables

function sortValue(row, column) {
  const cell = row.cells[column];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (text === "" || text === "–") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text.toLocaleLowerCase() : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
}

function sortBy(table, heading) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [sortValue(row, heading.cellIndex), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return ascending ? compare(a, b) : compare(b, a);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    if ("plain" in heading.dataset) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading));
    heading.append(button);
  }
}

for (const input of document.querySelectorAll("input[data-filters]")) {
  const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
  if (rows.length < 2) continue;
  const told = input.parentElement.querySelector("output");
  input.parentElement.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLocaleLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    told.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}

// ---- plots

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 40rem)");
const drawn = new Set();

// A figure names colours of the style sheet.
function coloured(value, key, styles) {
  if (Array.isArray(value)) return value.map((item) => coloured(item, key, styles));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, name, styles)]));
  }
  const isColour = typeof value === "string" && value.startsWith("--") && /color$/i.test(key);
  return isColour ? styles.getPropertyValue(value).trim() : value;
}

function dressed(figure) {
  const styles = getComputedStyle(document.documentElement);
  const { data, layout } = coloured(figure, "", styles);
  const colour = (name) => styles.getPropertyValue(name).trim();
  const axis = {
    gridcolor: colour("--grid"),
    linecolor: colour("--rule"),
    zeroline: false,
    ticks: "outside",
    ticklen: 4,
    tickcolor: colour("--rule"),
    automargin: true,
    tickfont: { size: 12 },
  };
  const titled = (own) => (own?.title ? { ...own, title: { standoff: 12, ...own.title, font: { size: 13 } } } : own);
  const legend = narrow.matches || layout.showlegend;
  if (narrow.matches) {
    // Too narrow for names beside the points.
    for (const trace of data) if (trace.mode?.includes("+text")) trace.mode = trace.mode.replace("+text", "");
  }
  return [data, {
    ...layout,
    autosize: true,
    height: layout.height ?? 380,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: styles.getPropertyValue("--sans"), size: 13, color: colour("--muted") },
    margin: { l: 56, t: legend ? 40 : 12, b: 48, ...layout.margin, r: narrow.matches && !layout.meta?.keepMargin ? 16 : layout.margin?.r ?? 24 },
    showlegend: Boolean(legend),
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { color: colour("--ink") } },
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
    xaxis: { ...axis, ...titled(layout.xaxis) },
    yaxis: { ...axis, ...titled(layout.yaxis) },
  }];
}

function draw(canvas) {
  const figure = JSON.parse(document.getElementById(canvas.dataset.figure).textContent);
  const [data, layout] = dressed(figure);
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  Plotly.react(canvas, data, layout, options).then(() => {
    // To a screen reader the picture is its title, its words and the table below.
    for (const picture of canvas.querySelectorAll("svg.main-svg")) picture.setAttribute("aria-hidden", "true");
    canvas.querySelector(".modebar")?.setAttribute("aria-label", "Tools of the plot");
    canvas.dataset.drawn = "yes";
  });
  drawn.add(canvas);
}

const canvases = document.querySelectorAll(".canvas");
if (canvases.length) {
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      draw(target);
    }
  }, { rootMargin: "400px" });
  for (const canvas of canvases) watch.observe(canvas);
  const again = () => drawn.forEach(draw);
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  addEventListener("beforeprint", () => canvases.forEach(draw));
}
