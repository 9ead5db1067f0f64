// Small helpers for the document.

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

/** Make an element: `h("li", { class: "row", onclick: f }, "text", child)`. Text is always text, never markup. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tell a screen reader something, and nobody else. */
export function announce(text) {
  const region = $("live");
  region.textContent = "";
  setTimeout(() => (region.textContent = text), 50);
}

let toastTimer;

/** A line at the edge of the page for a while; `action` is { label, run }. Errors stay until they are closed. */
export function toast(text, { action, error = false } = {}) {
  const box = $("toast");
  box.replaceChildren(h("span", {}, text));
  const close = () => (box.hidden = true);
  if (action) box.append(h("button", { onclick: () => (close(), action.run()) }, action.label));
  if (error) box.append(h("button", { onclick: close, "aria-label": "Close this message" }, "✕"));
  box.classList.toggle("error", error);
  box.hidden = false;
  clearTimeout(toastTimer);
  if (!error) toastTimer = setTimeout(close, 5000);
}

/** Give the browser a file to save. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** What this browser remembers of how the page is used; photos and corrections are in keep.js. */
export const memory = {
  get(name, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`vlpart.${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`vlpart.${name}`, JSON.stringify(value));
    } catch {
      // a browser that keeps nothing: the page works without
    }
  },
};
