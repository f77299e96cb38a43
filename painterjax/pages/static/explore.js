// The page of a run: asks the server, and shows what it says. No library, no build step.

import { byId, element, nameOf } from "./elements.js";
import { drawMap, listenToMap, mark } from "./map.js";

const answer = byId("answer");
const filters = byId("filters");

let about = { upload_bytes: Infinity };
let asked = null; // What the answer is about: {id} of a painting, or {file} that was uploaded.
let latest = null; // Stops the question before, whose answer nobody waits for any more.
const sides = { first: null, second: null }; // The pair, each as `asked`.

// Words

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
  listenToMap(follow);
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
