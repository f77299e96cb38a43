// The map of paintings: marks, colors, search by text, keys, and what a pointer does.

import { MapCanvas } from "./canvas.js";
import { byId, counted, element, nameOf } from "./elements.js";

const LEGEND = 12; // colors that the legend names
const SWATCHES = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#00a3a3", "#f032e6",
  "#9a6324", "#808000", "#000075", "#d4a017", "#7f7f7f"];

const map = new MapCanvas(byId("map"));
let names = []; // of the paintings, as they are searched
let found = []; // the paintings that the text finds, as numbers of points
let next = 0; // the one of them that Enter chooses
let current = 0; // the painting that the keys are at

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

export function drawMap(data, wide) {
  map.show({ ...data, wide });
  names = data.id.map((_, i) => plain(nameOf(data.points[i])));
  const { color } = byId("map-tools");
  for (const option of color.options) {
    option.hidden = option.value && data.values[option.value].filter(Boolean).length < 2;
  }
  paint(color.value);
}

// The points of the answer of /api/map, which come by columns.
export function withPoints(data) {
  const { id, x, y, title, values, key } = data;
  const points = id.map((number, i) => ({
    id: number, x: x[i], y: y[i], title: title[i], image: `/pictures/${key}/${number}.jpg`,
    artist: values.artist[data.artist[i]], style: values.style[data.style[i]],
    century: values.century[data.century[i]],
  }));
  return { ...data, points };
}

// Colors the paintings by a column; the values with most paintings are named.
function paint(column) {
  const counts = new Map();
  if (column) for (const { [column]: value } of map.points) {
    if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, LEGEND).map(([value]) => value);
  const colors = new Map(most.map((value, i) => [value, SWATCHES[i]]));
  map.colors = column && map.points.map((point) => colors.get(point[column]));
  map.draw();
  byId("colors").replaceChildren(...most.map((value) => {
    const item = element("li", { textContent: value });
    item.style.setProperty("--color", colors.get(value));
    return item;
  }));
}

function find(text) {
  const wanted = plain(text.trim());
  found = wanted ? names.flatMap((name, i) => (name.includes(wanted) ? [i] : [])) : [];
  next = 0;
  map.found = wanted ? new Set(found) : null;
  map.draw();
  byId("unknown").textContent = !wanted ? ""
    : found.length ? `${counted(found.length, "painting")}: Enter goes through them.` : "No painting has this in its name.";
}

function chooseNext() {
  if (found.length) choose(found[next++ % found.length]);
}

function choose(i) {
  const hash = `#painting-${map.points[i].id}`;
  if (location.hash === hash) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}

export function mark(query, nearest) {
  const near = new Set(nearest.map(({ id }) => id));
  const kind = ({ id, artist }) => (id === query.id ? "chosen" : near.has(id) ? "near"
    : query.name && artist === query.name ? "same" : "");
  map.kinds = map.points.map(kind);
  const chosen = map.kinds.indexOf("chosen");
  if (chosen >= 0) {
    current = chosen;
    map.bringIntoView(chosen);
  }
  map.draw();
}

function point(i) {
  current = i;
  map.current = i;
  byId("under").textContent = i < 0 ? "" : nameOf(map.points[i]);
  map.draw();
}

const ARROWS = {
  ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1],
};

// The nearest painting in a direction, where the distance across counts twice.
function nearestInDirection(from, [right, down]) {
  let best = from;
  let least = Infinity;
  map.points.forEach((other, i) => {
    const x = other.x - map.points[from].x;
    const y = other.y - map.points[from].y;
    const along = x * right + y * down;
    const reach = along + 2 * (Math.abs(x * down) + Math.abs(y * right));
    if (along > 0 && reach < least) [best, least] = [i, reach];
  });
  return best;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (event.key === "+" || event.key === "-") map.zoomBy(event.key === "+" ? 2 : 0.5);
  if (event.key === "Enter" && current >= 0) choose(current);
  if (!arrow) return;
  event.preventDefault(); // The keys would scroll.
  point(nearestInDirection(Math.max(0, current), arrow));
  map.bringIntoView(current);
}

// Dragging moves the map, two fingers zoom it, and a click chooses a painting.
function listenToPointers(canvas) {
  const pointers = new Map();
  let moved = 0;
  const middle = () => {
    const all = [...pointers.values()];
    const x = all.reduce((sum, p) => sum + p.offsetX, 0) / all.length;
    const y = all.reduce((sum, p) => sum + p.offsetY, 0) / all.length;
    const [a, b] = all;
    return { x, y, gap: b && Math.hypot(a.offsetX - b.offsetX, a.offsetY - b.offsetY) };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return point(map.at(event.offsetX, event.offsetY));
    const before = middle();
    pointers.set(event.pointerId, event);
    const after = middle();
    moved += Math.hypot(after.x - before.x, after.y - before.y) + Math.abs(after.gap - before.gap || 0);
    if (before.gap) map.zoomBy(after.gap / before.gap, before.x, before.y);
    map.moveBy(after.x - before.x, after.y - before.y);
  });
  canvas.addEventListener("pointerup", (event) => {
    const i = map.at(event.offsetX, event.offsetY);
    if (pointers.size === 1 && moved < 6 && i >= 0) choose(i);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode ? 30 : 1; // pixels of a line
    map.zoomBy(Math.exp(-0.002 * lines * event.deltaY), event.offsetX, event.offsetY);
  }, { passive: false });
}

export function listenToMap() {
  const canvas = byId("map");
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("focus", () => point(Math.max(0, current)));
  listenToPointers(canvas);
  byId("name").addEventListener("input", ({ target }) => find(target.value));
  byId("map-tools").addEventListener("submit", (event) => {
    event.preventDefault();
    chooseNext();
  });
  byId("map-tools").color.addEventListener("change", ({ target }) => paint(target.value));
  byId("smaller").addEventListener("click", () => map.zoomBy(0.5));
  byId("larger").addEventListener("click", () => map.zoomBy(2));
}
