// The page of a run: sends requests to the server and shows its answers. No library, no build step.

import { byId, counted, element, isCut, nameOf } from "./elements.js";
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
const choices = { first: 0, second: 0 }; // of each side so far, so that earlier ones do not count
let comparisons = 0; // so far, so that the answer to an earlier one is not shown
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
  // A line marks the center square where the network sees that alone.
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    whole.style.setProperty("--ratio", width / height);
    whole.classList.toggle("seen", isCut(width, height, run.wide));
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
  byId("who").hidden = someone_else === null; // The network is untrained, or no artist is known.
  byId("artists").replaceChildren(...artistRows(artists, someone_else ?? 0));
  byId("nearest").replaceChildren(...nearest.map(card));
  byId("found").hidden = false;
  byId("more").hidden = nearest.length < SHOWN;
  const name = chosen.file?.name ?? nameOf(query);
  byId("status").textContent = nearest.length
    ? `The ${counted(nearest.length, "painting")} nearest to ${name}:`
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
  const count = counted(paintings, "painting");
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
  const why = element("button", { type: "button", textContent: "Why?", title: `Why ${nameOf(painting)}?` });
  why.addEventListener("click", () => explain({ id: painting.id, shown: painting }));
  return element("li", {}, element(
    "a", { href: `#painting-${painting.id}` }, picture(painting), text,
  ), why);
}

// Both pictures side by side, with what makes them alike.
async function explain(other) {
  byId("pair").scrollIntoView();
  await setSide("first", chosen);
  await setSide("second", other);
  if (compared) await showLikeness();
}

// The catalogue

async function checkCatalogue() {
  byId("check").disabled = true;
  byId("checked").textContent = "Computing…";
  try {
    const { count, doubtful } = await request("/api/doubtful");
    byId("doubtful").replaceChildren(...doubtful.map(doubtfulCard));
    byId("checked").textContent = counted(count, "painting")
      + (count > doubtful.length ? `, of which these are the first ${doubtful.length}` : "");
  } catch (error) {
    byId("checked").textContent = error.message;
  }
  byId("check").disabled = false;
}

function doubtfulCard(painting) {
  const text = caption(painting);
  text.append(element("span", {
    textContent: `catalogued artist ${percent(painting.probability)},`
      + ` ${painting.likeliest} ${percent(painting.likeliest_probability)}`,
  }));
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
  const choice = (choices[side] += 1);
  byId("pair-error").textContent = "";
  beginComparison();
  try {
    const shown = what.shown ?? (await lookUp(what, "k=1")).query;
    if (choice !== choices[side]) return; // Another picture was chosen meanwhile.
    sides[side] = { ...what, shown };
    place.replaceChildren(picture(shown), captionOf(sides[side]));
    if (sides.first && sides.second) await showComparison();
  } catch (error) {
    if (choice !== choices[side]) return;
    sides[side] = null;
    place.replaceChildren();
    showError(byId("pair-error"), error, what.file);
  }
}

function beginComparison() {
  comparisons += 1;
  hideLikeness();
  showVerdict(null);
  return comparisons;
}

async function showComparison() {
  const number = beginComparison();
  const found = await askOfTwo("compare", [sides.first, sides.second]);
  if (number === comparisons) showVerdict(found);
}

// By Bayes' rule, from the probability beforehand that the slider gives.
function showVerdict(found) {
  compared = found;
  const hasProbability = typeof compared?.probability === "number"; // Not of an untrained network.
  byId("beforehand").hidden = !hasProbability;
  byId("alike").hidden = !compared || Boolean(document.querySelector(".heat"));
  const before = byId("prior").value / 100;
  byId("prior-shown").textContent = percent(before);
  const same = before * compared?.probability;
  const different = (1 - before) * (1 - compared?.probability);
  const distance = compared ? `Distance ${compared.distance.toFixed(3)}.` : "";
  byId("verdict").textContent = hasProbability
    ? `${distance} The probability that both are by the same artist is`
      + ` ${percent(same / (same + different))}, if it was ${percent(before)} beforehand.`
    : distance;
}

// Asks "compare" or "likeness" of two pictures.
function askOfTwo(question, two) {
  const parameters = new URLSearchParams();
  ["first", "second"].forEach((name, i) => two[i].file || parameters.set(name, two[i].id));
  const bodies = two.filter(({ file }) => file).map(({ file }) => file);
  if (bodies.length === 2) parameters.set("first_bytes", bodies[0].size);
  return request(`/api/${question}?${parameters}`, { method: "POST", body: new Blob(bodies) });
}

async function showLikeness() {
  const number = comparisons;
  byId("alike").disabled = true;
  byId("alike-note").textContent = "Computing…";
  try {
    const found = await askOfTwo("likeness", [sides.first, sides.second]);
    if (number !== comparisons) return;
    for (const side of ["first", "second"]) {
      document.querySelector(`[data-side="${side}"] .whole`).append(heatMap(found[side]));
    }
    byId("alike-note").textContent =
      "The brighter a place, the more it adds to the likeness that the network sees.";
    byId("alike").hidden = true;
  } catch (error) {
    byId("alike-note").textContent = "";
    showError(byId("pair-error"), error);
  } finally {
    byId("alike").disabled = false;
  }
}

function hideLikeness() {
  byId("alike-note").textContent = "";
  for (const map of document.querySelectorAll(".heat")) map.remove();
}

// Shares from 0 to 255 over the square that the network sees, from red to yellow.
function heatMap(rows) {
  const side = rows.length;
  const label = "Where the network sees the likeness";
  const properties = { className: "heat", width: side, height: side, role: "img", ariaLabel: label };
  const canvas = element("canvas", properties);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  rows.flat().forEach((share, i) => pixels.data.set([255, share, 0, 0.8 * share], 4 * i));
  context.putImageData(pixels, 0, 0);
  return canvas;
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
  byId("alike").addEventListener("click", showLikeness);
  byId("prior").addEventListener("input", () => showVerdict(compared));
  filters.addEventListener("change", () => chosen && choose(chosen));
  filters.addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", showMore);
  byId("check").addEventListener("click", checkCatalogue);
  addEventListener("scroll", () => {
    if (byId("more").getBoundingClientRect().top < innerHeight) showMore();
  }, { passive: true });
  listenToMap();
}

function describeRun() {
  const { name, paintings, artists } = run;
  document.title = `${name} · painterjax`;
  byId("about").textContent =
    `${name}: ${counted(paintings, "painting")}`
    + (artists.length ? ` by ${counted(artists.length, "artist")}.` : ".")
    + (run.test_artists ? ` The test paintings are by ${run.test_artists}.` : "");
  byId("size").textContent = `${run.image_size} × ${run.image_size}`;
  byId("wide").hidden = !run.wide;
  byId("calibrated").hidden = !run.has_probabilities;
  byId("catalogue").hidden = !run.tells_artists;
  filters.querySelector(".check").hidden = artists.length === 0;
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
    drawMap(withPoints(map), run.wide);
    followAddress();
  } catch (error) {
    byId("about").textContent = "";
    showError(byId("error"), error);
  }
}

start();
