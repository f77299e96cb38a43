// Draws paintings at their places: thumbnails from one sheet, and whole pictures when they are large.

import { isCut } from "./elements.js";

const DRAWN = 12000; // thumbnails at once; zooming in shows the others
const FEWEST = 1500; // of them while the map moves on a slow machine
const SMOOTH = 30; // milliseconds of a frame, at most, that the number while it moves aims at
const STILL = 150; // milliseconds without a move until all are drawn again
const WHOLE = 56; // pixels from which on a whole picture is loaded
const LOADED = 300; // whole pictures in memory
const LARGEST = 240; // pixels of a picture
const RINGS = { same: 2, near: 3, chosen: 5 };

export class MapCanvas {
  points = [];
  kinds = []; // "chosen", "near", "same" or "" by point
  colors = null; // by point
  found = null; // the points that a text finds; null without a text
  current = -1;
  #canvas;
  #context;
  #sheet = null;
  #view = { x: 0.5, y: 0.5, zoom: 1 }; // the middle, in the map's units
  #pending = false;
  #box = { width: 1, height: 1 }; // of the canvas, in pixels
  #few = DRAWN; // thumbnails while the map moves
  #moved = -Infinity; // when it moved, and when it was drawn
  #frame = 0;
  #still = 0; // the timer until it stands still
  #whole = new Map(); // whole pictures by point, the latest ones last
  #drawn = []; // points, the topmost last

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => {
      this.#box = { width: canvas.clientWidth, height: canvas.clientHeight };
      this.draw();
    }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show({ points, columns, side, sheet, wide }) {
    Object.assign(this, { points, columns, side, wide });
    const image = new Image();
    image.onload = async () => {
      this.#sheet = await createImageBitmap(image);
      this.draw();
      requestAnimationFrame(() => performance.mark("map"));
    };
    image.src = sheet;
    this.draw();
  }

  get zoom() { return this.#view.zoom; }

  // Pixels of the side of a painting: fewer where more paintings share the map.
  get size() {
    const { width, height } = this.#box;
    const alone = Math.sqrt((width * height) / Math.max(1, this.points.length));
    return Math.min(LARGEST, Math.max(5, Math.min(30, 0.8 * alone)) * this.zoom ** 0.8);
  }

  get #largestZoom() { return Math.max(8, Math.sqrt(this.points.length)); }

  // Where points are on the canvas; a margin holds the paintings at the border.
  #placing() {
    const { width, height } = this.#box;
    const margin = this.#margin;
    const [wide, high] = [(width - margin) * this.zoom, (height - margin) * this.zoom];
    const [left, top] = [width / 2 - this.#view.x * wide, height / 2 - this.#view.y * high];
    return { x: (point) => left + point.x * wide, y: (point) => top + point.y * high };
  }

  #place(point) {
    const placing = this.#placing();
    return [placing.x(point), placing.y(point)];
  }

  get #margin() { return Math.min(40, this.size + 10); }

  // The topmost painting at a pixel, or -1.
  at(left, top) {
    const reach = Math.max(this.size / 2, 6);
    const { x, y } = this.#placing();
    const isThere = (i) => Math.abs(x(this.points[i]) - left) <= reach
      && Math.abs(y(this.points[i]) - top) <= reach;
    return this.#drawn.findLast(isThere) ?? -1;
  }

  zoomBy(factor, left, top) {
    const { width, height } = this.#box;
    const zoom = Math.min(this.#largestZoom, Math.max(1, this.zoom * factor));
    const change = zoom / this.zoom;
    const [x, y] = [(left ?? width / 2) - width / 2, (top ?? height / 2) - height / 2];
    this.moveBy(x / change - x, y / change - y, zoom);
  }

  moveBy(right, down, zoom = this.zoom) {
    const { width, height } = this.#box;
    const view = this.#view;
    const margin = this.#margin;
    view.x -= right / ((width - margin) * this.zoom);
    view.y -= down / ((height - margin) * this.zoom);
    view.zoom = zoom;
    const reach = 0.5 / zoom; // The map stays in the frame.
    view.x = Math.min(1 - reach, Math.max(reach, view.x));
    view.y = Math.min(1 - reach, Math.max(reach, view.y));
    this.#canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";
    this.#canvas.dataset.zoom = zoom.toFixed(2);
    this.#moved = performance.now();
    clearTimeout(this.#still);
    this.#still = setTimeout(() => this.draw(), STILL);
    this.draw();
  }

  // Thumbnails of this frame: while the map moves, as many as the last frames had time for.
  #limit(now) {
    const isMoving = now - this.#moved < STILL;
    const passed = now - this.#frame;
    this.#frame = now;
    if (!isMoving) return DRAWN;
    if (passed > SMOOTH) this.#few = Math.max(FEWEST, 0.6 * this.#few);
    else this.#few = Math.min(DRAWN, 1.05 * this.#few);
    return this.#few;
  }

  bringIntoView(i) {
    const { width, height } = this.#box;
    const [x, y] = this.#place(this.points[i]);
    const reach = this.size / 2;
    const isVisible = x >= reach && y >= reach && x <= width - reach && y <= height - reach;
    if (!isVisible) this.moveBy(width / 2 - x, height / 2 - y);
  }

  // Draws in the next frame, once however often it is asked.
  draw() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame((now) => {
      this.#pending = false;
      this.#drawNow(this.#limit(now));
    });
  }

  #drawNow(most) {
    const ratio = devicePixelRatio;
    const { width, height } = this.#box;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.#canvas.width !== wide) this.#canvas.width = wide;
    if (this.#canvas.height !== high) this.#canvas.height = high;
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#context.clearRect(0, 0, width, height);
    this.#drawn = this.#inOrder(this.#visible(width, height, most));
    const computed = getComputedStyle(this.#canvas);
    const names = [...Object.keys(RINGS), "line", "raised"];
    const look = Object.fromEntries(names.map((n) => [n, computed.getPropertyValue(`--${n}`)]));
    const { x, y } = this.#placing();
    const { size } = this;
    for (const i of this.#drawn) {
      this.#drawPainting(i, x(this.points[i]), y(this.points[i]), size, look);
    }
    this.#canvas.dataset.drawn = this.#drawn.length;
  }

  // The first `most` of the points in the frame, and those that are marked.
  #visible(width, height, most) {
    const reach = this.size / 2;
    const placing = this.#placing();
    const visible = [];
    this.points.forEach((point, i) => {
      if (visible.length >= most && !this.kinds[i]) return;
      const [x, y] = [placing.x(point), placing.y(point)];
      if (x > -reach && y > -reach && x < width + reach && y < height + reach) visible.push(i);
    });
    return visible;
  }

  // What is marked lies above the others.
  #inOrder(visible) {
    const above = (i) => (this.found?.has(i) ? 1 : 0)
      + (this.kinds[i] ? 2 * RINGS[this.kinds[i]] : 0) + (i === this.current ? 100 : 0);
    const marked = visible.filter(above).sort((a, b) => above(a) - above(b));
    return marked.length ? [...visible.filter((i) => !above(i)), ...marked] : visible;
  }

  #drawPainting(i, x, y, usual, look) {
    const context = this.#context;
    const size = i === this.current ? 1.3 * usual : usual;
    const [left, top] = [x - size / 2, y - size / 2];
    const kind = this.kinds[i];
    const isFaint = this.found && !this.found.has(i) && !kind && i !== this.current;
    context.globalAlpha = isFaint ? 0.12 : 1;
    const ring = kind ? RINGS[kind] : 0;
    if (ring) this.#border(left, top, size, ring + 1, look[kind]);
    const color = this.colors?.[i];
    if (color) this.#border(left, top, size, Math.max(1, size / 12), color);
    const whole = usual >= WHOLE && this.#drawn.length < LOADED / 2 ? this.#wholePicture(i) : null;
    if (whole?.naturalWidth) this.#drawWhole(whole, left, top, size, look);
    else if (this.#sheet) {
      const { columns, side } = this;
      const [column, row] = [i % columns, Math.floor(i / columns)];
      context.drawImage(this.#sheet, column * side, row * side, side, side, left, top, size, size);
    } else {
      context.fillStyle = look.line;
      context.fillRect(left, top, size, size);
    }
  }

  #border(left, top, size, width, color) {
    this.#context.fillStyle = color;
    this.#context.fillRect(left - width, top - width, size + 2 * width, size + 2 * width);
  }

  // The whole painting in its square, where a line marks the part that the network sees alone.
  #drawWhole(image, left, top, size, look) {
    const context = this.#context;
    const scale = size / Math.max(image.naturalWidth, image.naturalHeight);
    const [width, height] = [scale * image.naturalWidth, scale * image.naturalHeight];
    context.fillStyle = look.raised;
    context.fillRect(left, top, size, size);
    context.drawImage(image, left + (size - width) / 2, top + (size - height) / 2, width, height);
    if (Math.abs(width - height) < 1 || !isCut(width, height, this.wide)) return;
    const side = Math.min(width, height);
    context.strokeStyle = "#fffc";
    context.lineWidth = 1;
    context.strokeRect(left + (size - side) / 2 + 0.5, top + (size - side) / 2 + 0.5, side - 1, side - 1);
  }

  #wholePicture(i) {
    let image = this.#whole.get(i);
    this.#whole.delete(i);
    if (!image) {
      image = new Image();
      image.onload = () => this.draw();
      image.src = this.points[i].image;
    }
    this.#whole.set(i, image);
    if (this.#whole.size > LOADED) this.#whole.delete(this.#whole.keys().next().value);
    return image;
  }
}
