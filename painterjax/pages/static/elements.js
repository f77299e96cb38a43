// Helpers for elements and for the names of paintings.

export const byId = (id) => document.getElementById(id);

// A count with its noun: "1 painting", "2,000 paintings".
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Whether the network sees the center square alone, and not all of a picture; `wide` is the server's.
export function isCut(width, height, wide) {
  const ratio = Math.max(width, height) / Math.min(width, height);
  return width !== height && !(wide && ratio > wide + 0.01); // Its sides are whole pixels.
}

export function nameOf(painting) {
  return [painting.name ?? painting.artist, painting.title, painting.date].filter(Boolean).join(", ");
}
