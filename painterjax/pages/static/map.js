// The map of paintings: drawing, marks, arrow keys, zoom, and search by name.

import { byId, element, nameOf } from "./elements.js";

const SIDE_BY_ZOOM = new Map([[1, 26], [2, 36], [4, 52], [8, 72]]); // the pixels of a thumbnail

export function drawMap({ points, columns, sheet }) {
  const rows = Math.ceil(points.length / columns);
  const step = (i, count) => (count > 1 ? (100 * i) / (count - 1) : 0);
  const links = points.map((point, i) => {
    const link = element("a", { href: `#painting-${point.id}`, tabIndex: -1, draggable: false });
    link.ariaLabel = nameOf(point);
    Object.assign(link.dataset, point);
    link.style.setProperty("--x", point.x);
    link.style.setProperty("--y", point.y);
    Object.assign(link.style, {
      backgroundImage: `url("${sheet}")`,
      backgroundSize: `${100 * columns}% ${100 * rows}%`,
      backgroundPosition:
        `${step(i % columns, columns)}% ${step(Math.floor(i / columns), rows)}%`,
    });
    return link;
  });
  links[0].tabIndex = 0;
  byId("plane").replaceChildren(...links);
  listNames(points);
}

// The paintings of the map by name; later ones of the same name have their number added.
const pointByName = new Map();

function listNames(points) {
  for (const point of points) {
    const name = nameOf(point);
    pointByName.set(pointByName.has(name) ? `${name} (${point.id})` : name, point);
  }
  byId("names").replaceChildren(
    ...[...pointByName.keys()].map((value) => element("option", { value })),
  );
}

function findByName(text) {
  const wanted = text.trim().toLocaleLowerCase();
  byId("unknown").textContent = "";
  if (!wanted) return;
  const names = [...pointByName.keys()];
  const name = names.find((known) => known.toLocaleLowerCase() === wanted)
    ?? names.find((known) => known.toLocaleLowerCase().includes(wanted));
  if (name) location.hash = `#painting-${pointByName.get(name).id}`;
  else byId("unknown").textContent = "No painting on the map has this in its name.";
}

export function mark(query, nearest) {
  const near = new Set(nearest.map(({ id }) => String(id)));
  for (const link of byId("plane").children) {
    link.classList.toggle("chosen", link.dataset.id === String(query.id));
    link.classList.toggle("near", near.has(link.dataset.id));
    link.classList.toggle("same", link.dataset.artist === query.artist);
  }
  const chosen = chosenLink();
  if (chosen && !isVisible(chosen)) center(chosen);
}

const chosenLink = () => byId("plane").querySelector(".chosen");

function isVisible(link) {
  const frame = byId("map").getBoundingClientRect();
  const { left, right, top, bottom } = link.getBoundingClientRect();
  return left >= frame.left && right <= frame.right && top >= frame.top && bottom <= frame.bottom;
}

function center(link) {
  const map = byId("map");
  map.scrollTo(
    link.offsetLeft + (link.offsetWidth - map.clientWidth) / 2,
    link.offsetTop + (link.offsetHeight - map.clientHeight) / 2,
  );
}

// The nearest link in a direction, where the distance across counts twice.
function nearestInDirection(link, [right, down]) {
  let best = null;
  let least = Infinity;
  for (const other of link.parentElement.children) {
    const x = other.dataset.x - link.dataset.x;
    const y = other.dataset.y - link.dataset.y;
    const along = x * right + y * down;
    const across = Math.abs(x * down) + Math.abs(y * right);
    if (along > 0 && along + 2 * across < least) {
      least = along + 2 * across;
      best = other;
    }
  }
  return best;
}

const ARROWS = {
  ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1],
};

function onMapKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 1 : -1);
  const arrow = ARROWS[event.key];
  const link = event.target.closest("#plane a");
  if (!arrow || !link) return;
  event.preventDefault(); // The keys would scroll.
  nearestInDirection(link, arrow)?.focus();
}

function onMapFocus({ target: link }) {
  byId("plane").querySelector("[tabindex='0']").tabIndex = -1;
  link.tabIndex = 0;
}

let zoomed = 1;

function zoom(change) {
  const map = byId("map");
  const levels = [...SIDE_BY_ZOOM.keys()];
  const next = levels[levels.indexOf(zoomed) + change];
  if (!next) return;
  const [x, y] = [map.scrollLeft + map.clientWidth / 2, map.scrollTop + map.clientHeight / 2];
  const scale = next / zoomed;
  const chosen = chosenLink();
  const keepsChosen = chosen && isVisible(chosen);
  zoomed = next;
  byId("plane").style.width = `${100 * zoomed}%`;
  byId("plane").style.setProperty("--size", `${SIDE_BY_ZOOM.get(zoomed)}px`);
  map.scrollTo(x * scale - map.clientWidth / 2, y * scale - map.clientHeight / 2);
  if (keepsChosen && !isVisible(chosen)) center(chosen);
  byId("smaller").disabled = zoomed === levels[0];
  byId("larger").disabled = zoomed === levels.at(-1);
}

// `followAddress` chooses the painting that the address names.
export function listenToMap(followAddress) {
  const plane = byId("plane");
  byId("map").addEventListener("keydown", onMapKey);
  plane.addEventListener("focusin", onMapFocus);
  for (const kind of ["focusin", "pointerover"]) {
    plane.addEventListener(kind, ({ target }) => {
      byId("under").textContent = target.ariaLabel ?? "";
    });
  }
  plane.addEventListener("click", ({ target }) => {
    if (target.hash && target.hash === location.hash) followAddress();
  });
  byId("name").addEventListener("change", ({ target }) => findByName(target.value));
  byId("smaller").addEventListener("click", () => zoom(-1));
  byId("larger").addEventListener("click", () => zoom(1));
}
