// The page of a run: asks the server, and shows what it says. No library, no build step.

const SIDE_BY_ZOOM = new Map([[1, 26], [2, 36], [4, 52], [8, 72]]); // pixels of a thumbnail
const byId = (id) => document.getElementById(id);
const answer = byId("answer");
const filters = byId("filters");

let about = { upload_bytes: Infinity };
let asked = null; // What the answer is about: {id} of a painting, or {file} that was uploaded.
let latest = null; // Stops the question before, whose answer nobody waits for any more.
const sides = { first: null, second: null }; // The pair, each as `asked`.

// Elements and words

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function nameOf(painting) {
  return [painting.artist, painting.title, painting.date].filter(Boolean).join(", ");
}

function percent(probability) {
  if (probability < 0.005) return "< 1 %";
  if (probability > 0.995) return "> 99 %";
  return `${Math.round(100 * probability)} %`;
}

function close(painting) {
  return `${painting.distance.toFixed(3)}, ${percent(painting.probability)}`;
}

function picture(shown) {
  const alt = shown.artist ? `Painting: ${nameOf(shown)}` : "Your picture";
  return element("img", { src: shown.image, alt, loading: "lazy" });
}

function caption(painting) {
  const lines = [painting.title || painting.file, painting.date, painting.style].filter(Boolean);
  const seen = painting.split === "test" ? "" : "artist seen in training";
  return element(
    "div",
    { className: "caption" },
    element("b", { className: "name", textContent: painting.artist }),
    ...lines.map((textContent) => element("span", { textContent })),
    element("span", { className: "note", textContent: seen }),
  );
}

function labelOf({ file, shown }) {
  return file ? element("div", { className: "caption" }, element("b", { textContent: file.name }))
    : caption(shown);
}

// Questions to the server

async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error || `The server answers ${response.status}.`);
  return told;
}

// What the server knows of a picture: {id} of a painting, or a {file}.
function look(what, given, signal) {
  if (!what.file) return request(`/api/painting/${what.id}?${given}`, { signal });
  checkSize(what.file);
  return request(`/api/query?${given}`, { method: "POST", body: what.file, signal });
}

function checkSize(file) {
  if (file.size > about.upload_bytes) {
    const megabytes = about.upload_bytes / 2 ** 20;
    throw new Error(`${file.name} is larger than ${megabytes} MB: shrink it.`);
  }
}

function failed(place, error, file) {
  if (error.name === "AbortError") return;
  place.textContent = file && !error.message.includes(file.name)
    ? `${file.name}: ${error.message}` : error.message;
}

// What hangs near

async function ask(what) {
  latest?.abort();
  const { signal } = (latest = new AbortController());
  filters.other_artists.disabled = Boolean(what.file); // Nobody knows whose it is.
  byId("error").textContent = "";
  byId("status").textContent = "Looking…";
  byId("found").ariaBusy = "true";
  try {
    const given = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    const told = await look(what, given, signal);
    asked = { ...what, shown: told.query };
    show(told);
  } catch (error) {
    if (error.name === "AbortError") return; // Another question is on its way.
    byId("status").textContent = "";
    failed(byId("error"), error, what.file);
  }
  byId("found").ariaBusy = "false";
}

function show({ query, nearest, artists }) {
  const hadFocus = byId("found").contains(document.activeElement);
  byId("query").replaceChildren(picture(query), labelOf(asked));
  byId("artists").replaceChildren(...artists.map(artistRow));
  byId("nearest").replaceChildren(...nearest.map(card));
  byId("found").hidden = false;
  const who = asked.file?.name ?? nameOf(query);
  byId("status").textContent = nearest.length
    ? `The ${nearest.length} nearest to ${who}:`
    : "No painting fits these filters.";
  for (const button of document.querySelectorAll(".side button")) button.disabled = false;
  mark(query, nearest);
  if (hadFocus) answer.focus({ preventScroll: true }); // What had it is gone.
}

function artistRow(painting) {
  const share = percent(painting.probability);
  const thumbnail = element("img", { src: painting.image, alt: "" });
  return element("li", {}, element(
    "a",
    { href: `#painting-${painting.id}`, title: `Its nearest painting: ${nameOf(painting)}` },
    thumbnail,
    element("span", { className: "name caption", textContent: painting.artist }),
    element("meter", { value: painting.probability, ariaHidden: "true" }),
    element("span", { className: "share", textContent: share }),
  ));
}

function card(painting) {
  const apart = element("b", { textContent: close(painting) });
  apart.title = "Distance, and probability of one hand";
  const text = caption(painting);
  text.prepend(apart);
  return element("li", {}, element(
    "a", { href: `#painting-${painting.id}` }, picture(painting), text,
  ));
}

// The address says which painting is shown, so that links, Back and Forward lead there.
function follow() {
  const [, id] = location.hash.match(/^#painting-(\d+)$/) ?? [];
  if (id === undefined) return;
  ask({ id });
  const isNarrow = matchMedia("(max-width: 60rem)").matches;
  if (isNarrow || answer.contains(document.activeElement)) answer.scrollIntoView();
}

function upload(file) {
  if (location.hash) history.pushState(null, "", location.pathname);
  ask({ file });
}

// The map

function drawMap({ points, columns, sheet }) {
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

// Each painting of the map by its name, and its number where several have that name.
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
  else byId("unknown").textContent = "No painting of the map has this in its name.";
}

function mark(query, nearest) {
  const near = new Set(nearest.map(({ id }) => String(id)));
  for (const link of byId("plane").children) {
    link.classList.toggle("asked", link.dataset.id === String(query.id));
    link.classList.toggle("near", near.has(link.dataset.id));
    link.classList.toggle("same", link.dataset.artist === query.artist);
  }
}

// The nearest link in a direction, where a way aside counts twice.
function beyond(link, [right, down]) {
  let best = null;
  let least = Infinity;
  for (const other of link.parentElement.children) {
    const x = other.dataset.x - link.dataset.x;
    const y = other.dataset.y - link.dataset.y;
    const along = x * right + y * down;
    const aside = Math.abs(x * down) + Math.abs(y * right);
    if (along > 0 && along + 2 * aside < least) {
      least = along + 2 * aside;
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
  event.preventDefault(); // Of scrolling.
  beyond(link, arrow)?.focus();
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
  zoomed = next;
  byId("plane").style.width = `${100 * zoomed}%`;
  byId("plane").style.setProperty("--size", `${SIDE_BY_ZOOM.get(zoomed)}px`);
  map.scrollTo(x * scale - map.clientWidth / 2, y * scale - map.clientHeight / 2);
  byId("smaller").disabled = zoomed === levels[0];
  byId("larger").disabled = zoomed === levels.at(-1);
}

// Two pictures

async function put(side, what) {
  const place = document.querySelector(`[data-side="${side}"] .shown`);
  byId("pair-error").textContent = "";
  byId("verdict").textContent = "";
  try {
    const shown = what.shown ?? (await look(what, "k=1")).query;
    sides[side] = { ...what, shown };
    place.replaceChildren(picture(shown), labelOf(sides[side]));
    if (sides.first && sides.second) {
      const told = await compare([sides.first, sides.second]);
      byId("verdict").textContent =
        `Distance ${told.distance.toFixed(3)}: the probability that one hand painted both is`
        + ` ${percent(told.probability)}, if one and two hands were as likely beforehand.`;
    }
  } catch (error) {
    sides[side] = null;
    place.replaceChildren();
    failed(byId("pair-error"), error, what.file);
  }
}

function compare(two) {
  const given = new URLSearchParams();
  ["first", "second"].forEach((name, i) => two[i].file || given.set(name, two[i].id));
  const bodies = two.filter(({ file }) => file).map(({ file }) => file);
  if (bodies.length === 2) given.set("first_bytes", bodies[0].size);
  return request(`/api/compare?${given}`, { method: "POST", body: new Blob(bodies) });
}

// Beginning

function takeFiles(zone, take) {
  const input = zone.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // The same file can be chosen again.
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}

function listen() {
  addEventListener("hashchange", follow);
  // A file that misses its place must not replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  takeFiles(byId("drop"), upload);
  for (const zone of document.querySelectorAll(".side")) {
    takeFiles(zone, (file) => put(zone.dataset.side, { file }));
    zone.querySelector("button").addEventListener("click", () => put(zone.dataset.side, asked));
  }
  filters.addEventListener("change", () => asked && ask(asked));
  filters.addEventListener("submit", (event) => event.preventDefault());
  const plane = byId("plane");
  byId("map").addEventListener("keydown", onMapKey);
  plane.addEventListener("focusin", onMapFocus);
  for (const kind of ["focusin", "pointerover"]) {
    plane.addEventListener(kind, ({ target }) => {
      byId("under").textContent = target.ariaLabel ?? "";
    });
  }
  plane.addEventListener("click", ({ target }) => {
    if (target.hash && target.hash === location.hash) follow();
  });
  byId("name").addEventListener("change", ({ target }) => findByName(target.value));
  byId("smaller").addEventListener("click", () => zoom(-1));
  byId("larger").addEventListener("click", () => zoom(1));
}

function describeRun() {
  const { name, paintings, never_seen: test, artists } = about;
  document.title = `${name} · painterjax`;
  byId("about").textContent =
    `${name}: ${paintings.toLocaleString("en")} paintings by ${artists.length} artists. The map has`
    + ` paintings by the ${test.artists} artists of whom training saw none.`;
  byId("size").textContent = about.image_size;
  for (const [select, values] of [
    [filters.artist, artists], [filters.style, about.styles], [filters.century, about.centuries],
  ]) {
    select.append(...values.map((value) => new Option(value, value)));
    select.parentElement.hidden = values.length === 0;
  }
}

async function begin() {
  listen();
  try {
    const [run, map] = await Promise.all([request("/api/run"), request("/api/map")]);
    about = run;
    describeRun();
    drawMap(map);
    follow();
  } catch (error) {
    byId("about").textContent = "";
    failed(byId("error"), error);
  }
}

begin();
