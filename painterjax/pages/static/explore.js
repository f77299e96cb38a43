// The page of a run: sends requests to the server and shows its answers. No library, no build step.

import { byId, element, nameOf } from "./elements.js";
import { drawMap, listenToMap, mark, withPoints } from "./map.js";

const SHOWN = 12; // nearest paintings at first, as the server answers
const PAGE = 24; // that scrolling adds
const answer = byId("answer");
const filters = byId("filters");

let run = { upload_bytes: Infinity, names: {} };
// The picture that the answer is about: {id} of a painting or the uploaded {file}, and as shown.
let chosen = null;
let pending = null; // The AbortController of the latest request for an answer.
const sides = { first: null, second: null }; // The pictures to compare, each like `chosen`.
let compared = null; // Their distance, and the probability of one artist at even odds.

// Words

function percent(probability) {
  if (probability < 0.005) return "< 1 %";
  if (probability > 0.995) return "> 99 %";
  return `${Math.round(100 * probability)} %`;
}

function picture(shown) {
  const alt = shown.artist ? `Painting: ${nameOf(shown)}` : "Your picture";
  const image = element("img", { src: shown.image, alt, loading: "lazy" });
  const whole = element("span", { className: "whole" }, image);
  // The center square is what the network sees; a line marks it where there is more.
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    whole.style.setProperty("--ratio", width / height);
    whole.classList.toggle("seen", width !== height);
  });
  return element("span", { className: "frame" }, whole);
}

function caption(painting) {
  const lines = [painting.title || painting.file, painting.date, painting.style].filter(Boolean);
  const seen = painting.seen ? "artist seen in training" : "";
  return element(
    "div",
    { className: "caption" },
    element("b", { className: "name", textContent: painting.name }),
    ...lines.map((textContent) => element("span", { textContent })),
    element("span", { className: "note", textContent: seen }),
  );
}

function captionOf({ file, shown }) {
  return file ? element("div", { className: "caption" }, element("b", { textContent: file.name }))
    : caption(shown);
}

// Requests

async function request(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const result = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(result.error || `The server answers ${response.status}.`);
  return result;
}

// The answer about a picture: {id} of a painting, or a {file}.
function lookUp(what, parameters, signal) {
  if (!what.file) return request(`/api/painting/${what.id}?${parameters}`, { signal });
  checkSize(what.file);
  return request(`/api/query?${parameters}`, { method: "POST", body: what.file, signal });
}

function checkSize(file) {
  if (file.size > run.upload_bytes) {
    const megabytes = run.upload_bytes / 2 ** 20;
    throw new Error(`${file.name} is larger than ${megabytes} MB: use a smaller image.`);
  }
}

function showError(place, error, file) {
  if (error.name === "AbortError") return;
  place.textContent = file && !error.message.includes(file.name)
    ? `${file.name}: ${error.message}` : error.message;
}

// The paintings after those that are shown, when one scrolls to the end of them.
async function showMore() {
  if (!chosen || byId("more").hidden || byId("more").disabled) return;
  byId("more").disabled = true;
  const { signal } = pending;
  const count = byId("nearest").childElementCount;
  const parameters = new URLSearchParams([...wantedFilters(), ["first", count], ["k", PAGE]]);
  if (!chosen.file) parameters.set("number", chosen.id);
  try {
    const options = { method: "POST", body: chosen.file ?? "", signal };
    const { nearest } = await request(`/api/nearest?${parameters}`, options);
    byId("nearest").append(...nearest.map(card));
    byId("more").hidden = nearest.length < PAGE;
  } catch (error) {
    showError(byId("error"), error);
  }
  byId("more").disabled = false;
}

const wantedFilters = () => [...new FormData(filters)].filter(([, value]) => value);

// The answer: similar paintings and their artists

async function choose(what) {
  pending?.abort();
  const { signal } = (pending = new AbortController());
  filters.other_artists.disabled = Boolean(what.file); // The artist of an upload is unknown.
  byId("error").textContent = "";
  byId("status").textContent = "Searching…";
  byId("found").ariaBusy = "true";
  try {
    const result = await lookUp(what, new URLSearchParams(wantedFilters()), signal);
    chosen = { ...what, shown: result.query };
    show(result);
  } catch (error) {
    if (error.name === "AbortError") return; // A later request is pending.
    byId("status").textContent = "";
    showError(byId("error"), error, what.file);
  }
  byId("found").ariaBusy = "false";
  if (what.file && isNarrow()) answer.scrollIntoView(); // Below the map nobody would see it.
}

function show({ query, nearest, artists, someone_else }) {
  const hadFocus = byId("found").contains(document.activeElement);
  byId("query").replaceChildren(picture(query), captionOf(chosen));
  byId("artists").replaceChildren(...artistRows(artists, someone_else));
  byId("nearest").replaceChildren(...nearest.map(card));
  byId("found").hidden = false;
  byId("more").hidden = nearest.length < SHOWN;
  const name = chosen.file?.name ?? nameOf(query);
  byId("status").textContent = nearest.length
    ? `The ${nearest.length} paintings nearest to ${name}:`
    : "No painting fits these filters.";
  for (const button of document.querySelectorAll(".side button")) button.disabled = false;
  mark(query, nearest);
  if (hadFocus) answer.focus({ preventScroll: true }); // The focused element was replaced.
}

// All rows add up to 100 %.
function artistRows(artists, someoneElse) {
  const named = artists.reduce((sum, { probability }) => sum + probability, 0);
  const others = Math.max(0, 1 - someoneElse - named);
  return [
    ...artists.map(artistRow),
    element("li", {}, element("div", {}, ...artistCells("Other artists here, together", others))),
    element("li", {}, element("div", {}, ...artistCells("Someone else", someoneElse))),
  ];
}

function artistRow(painting) {
  const { id, name, probability, paintings, image } = painting;
  const count = `${paintings} ${paintings === 1 ? "painting" : "paintings"}`;
  return element("li", {}, element(
    "a",
    { href: `#painting-${id}`, title: `Nearest painting: ${nameOf(painting)}` },
    ...artistCells(name, probability, count, element("img", { src: image, alt: "" })),
  ));
}

function artistCells(name, probability, note = "", thumbnail = element("span")) {
  return [
    thumbnail,
    element(
      "span",
      { className: "caption" },
      element("b", { className: "name", textContent: name }),
      element("span", { className: "note", textContent: note }),
    ),
    element("meter", { value: probability, ariaHidden: "true" }),
    element("span", { className: "share", textContent: percent(probability) }),
  ];
}

function card(painting) {
  const text = caption(painting);
  text.prepend(element("b", { textContent: painting.distance.toFixed(3), title: "Distance" }));
  return element("li", {}, element(
    "a", { href: `#painting-${painting.id}` }, picture(painting), text,
  ));
}

const isNarrow = () => matchMedia("(max-width: 60rem)").matches;

// The address names the painting, so that links, Back and Forward work.
function followAddress() {
  const [, id] = location.hash.match(/^#painting-(\d+)$/) ?? [];
  if (id === undefined) return;
  choose({ id });
  if (isNarrow() || answer.contains(document.activeElement)) answer.scrollIntoView();
}

function upload(file) {
  if (location.hash) history.pushState(null, "", location.pathname);
  choose({ file });
}

// The comparison of two pictures

async function setSide(side, what) {
  const place = document.querySelector(`[data-side="${side}"] .shown`);
  byId("pair-error").textContent = "";
  showVerdict(null);
  try {
    const shown = what.shown ?? (await lookUp(what, "k=1")).query;
    sides[side] = { ...what, shown };
    place.replaceChildren(picture(shown), captionOf(sides[side]));
    if (sides.first && sides.second) {
      showVerdict(await compare([sides.first, sides.second]));
    }
  } catch (error) {
    sides[side] = null;
    place.replaceChildren();
    showError(byId("pair-error"), error, what.file);
  }
}

// By Bayes' rule, from the probability beforehand that the slider gives.
function showVerdict(found) {
  compared = found;
  byId("beforehand").hidden = !compared;
  const before = byId("prior").value / 100;
  byId("prior-shown").textContent = percent(before);
  const same = before * compared?.probability;
  const different = (1 - before) * (1 - compared?.probability);
  byId("verdict").textContent = compared
    ? `Distance ${compared.distance.toFixed(3)}. The probability that both are by the same artist is`
      + ` ${percent(same / (same + different))}, if it was ${percent(before)} beforehand.`
    : "";
}

function compare(two) {
  const parameters = new URLSearchParams();
  ["first", "second"].forEach((name, i) => two[i].file || parameters.set(name, two[i].id));
  const bodies = two.filter(({ file }) => file).map(({ file }) => file);
  if (bodies.length === 2) parameters.set("first_bytes", bodies[0].size);
  return request(`/api/compare?${parameters}`, { method: "POST", body: new Blob(bodies) });
}

// The start

function acceptFiles(zone, accept) {
  const input = zone.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    if (input.files[0]) accept(input.files[0]);
    input.value = ""; // So that the same file can be chosen again.
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) accept(file);
  });
}

function listen() {
  addEventListener("hashchange", followAddress);
  // A file dropped elsewhere must not replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  acceptFiles(byId("drop"), upload);
  for (const zone of document.querySelectorAll(".side")) {
    const { side } = zone.dataset;
    acceptFiles(zone, (file) => setSide(side, { file }));
    zone.querySelector("button").addEventListener("click", () => setSide(side, chosen));
  }
  byId("prior").addEventListener("input", () => showVerdict(compared));
  filters.addEventListener("change", () => chosen && choose(chosen));
  filters.addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", showMore);
  addEventListener("scroll", () => {
    if (byId("more").getBoundingClientRect().top < innerHeight) showMore();
  }, { passive: true });
  listenToMap();
}

function describeRun() {
  const { name, paintings, artists } = run;
  document.title = `${name} · painterjax`;
  byId("about").textContent =
    `${name}: ${paintings.toLocaleString("en")} paintings by`
    + ` ${artists.length.toLocaleString("en")} artists.`
    + (run.test_artists ? ` The test paintings are by ${run.test_artists}.` : "");
  byId("size").textContent = `${run.image_size} × ${run.image_size}`;
  for (const [select, values] of [
    [filters.artist, artists], [filters.style, run.styles], [filters.century, run.centuries],
  ]) {
    select.append(...values.map((value) => new Option(run.names[value] ?? value, value)));
    select.parentElement.hidden = values.length === 0;
  }
}

async function start() {
  listen();
  try {
    const [summary, map] = await Promise.all([request("/api/run"), request("/api/map")]);
    run = summary;
    describeRun();
    drawMap(withPoints(map));
    followAddress();
  } catch (error) {
    byId("about").textContent = "";
    showError(byId("error"), error);
  }
}

start();
