// Helpers for elements and for the names of paintings.

export const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function nameOf(painting) {
  return [painting.name ?? painting.artist, painting.title, painting.date].filter(Boolean).join(", ");
}
