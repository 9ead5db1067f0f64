// What was found as a tree: objects, their parts below them, and parts without their object.

import { announce, h, $ } from "./dom.js";
import { changed, partName, photoNow, remade, replaceOne, runOf, state } from "./store.js";
import { coloursNow } from "./view.js";

/** `rename(detection)` is called to ask for another name. */
export const hooks = { rename: () => {} };

const folded = new Set();
let focusId = null;

const STATES = { accepted: "accepted", edited: "corrected", added: "added by hand", found: "" };

let shownBefore = [];

/** Whether what the tree shows is the same as when this was last asked: rows that stay can be clicked and read on. */
function isSame(shown) {
  const before = shownBefore;
  shownBefore = shown;
  return shown.length === before.length && shown.every((each, i) => each === before[i]);
}

/** Show the detections of the active side. */
export function renderTree() {
  const tree = $("tree");
  $("nothing").textContent = emptyText();
  const { groups, colours } = coloursNow(state.active);
  const all = [...groups.groups.flatMap(({ object, parts }) => [object, ...parts]), ...groups.loose];
  $("nothing").hidden = all.length > 0;
  if (isSame([...all, ...colours.values(), state.selected, [...folded].join(), groups.loose.length])) return;
  const had = tree.contains(document.activeElement);
  const items = [];
  for (const { object, parts } of groups.groups) {
    items.push(item(object, colours, 1, parts));
    if (!folded.has(object.id)) items.push(...parts.map((part) => item(part, colours, 2)));
  }
  if (groups.loose.length) {
    items.push(h("li", { role: "none", class: "heading" }, "Parts without their object"));
    items.push(...groups.loose.map((part) => item(part, colours, 1)));
  }
  tree.replaceChildren(...items);
  const rows = rowsOf();
  const focused = rows.find((row) => row.dataset.id === focusId) ?? rows[0];
  if (focused) {
    focused.tabIndex = 0;
    if (had) focused.focus({ preventScroll: true });
  }
}

function emptyText() {
  const run = runOf(photoNow());
  if (!photoNow()) return "Add a photo to begin.";
  if (!run || run.status === "waiting") return "Waiting for its turn …";
  if (run.status === "running") return "Looking …";
  if (run.status === "error") return run.error;
  return run.detections.length
    ? "Nothing above this threshold. Move it down to see more."
    : "Nothing was found. Try other words, or a larger photo.";
}

const rowsOf = () => [...$("tree").querySelectorAll("[role=treeitem]")];

function item(detection, colours, level, parts = []) {
  const { id, name, score, status, hidden } = detection;
  const shortName = level === 2 ? (partName(name) ?? name) : name;
  const note = STATES[status] || `${score.toFixed(2)} score`; // begins with what can be read: WCAG 2.5.3
  const button = (label, sign, run) =>
    h(
      "button",
      {
        type: "button",
        tabindex: -1,
        title: label,
        "aria-hidden": "true",
        onclick: (event) => (event.stopPropagation(), run()),
      },
      sign,
    );
  const expandable = parts.length > 0;
  return h(
    "li",
    {
      role: "treeitem",
      tabindex: -1,
      "aria-level": level,
      "aria-expanded": expandable ? String(!folded.has(id)) : null,
      "aria-selected": String(id === state.selected),
      "aria-checked": String(!hidden),
      "aria-label": `${name}, ${note}${hidden ? ", left out" : ""}${expandable ? `, ${parts.length} parts` : ""}`,
      class: `row level${level} ${status}${id === state.hovered ? " hovered" : ""}`,
      dataset: { id },
      onclick: () => ((focusId = id), select(id === state.selected ? null : id)),
      onpointerenter: () => hover(id),
      onpointerleave: () => hover(null),
      ondblclick: () => hooks.rename(detection),
    },
    expandable
      ? button(folded.has(id) ? "Unfold" : "Fold", folded.has(id) ? "▸" : "▾", () => fold(id, !folded.has(id)))
      : h("span", { class: "nofold" }),
    h("input", {
      type: "checkbox",
      tabindex: -1,
      "aria-hidden": "true",
      title: "Left out of the picture and of downloads when it is not ticked",
      checked: !hidden,
      onclick: (event) => (event.stopPropagation(), toggle(detection)),
    }),
    h("span", { class: "swatch", style: { background: colours.get(id) } }),
    h("span", { class: "name" }, shortName),
    h("span", { class: "note" }, status === "found" ? score.toFixed(2) : (STATES[status] ?? "")),
    h(
      "span",
      { class: "actions" },
      button("Another name or object (F2)", "✎", () => hooks.rename(detection)),
      button(status === "accepted" ? "Not accepted (A)" : "Accept (A)", "✓", () => accept(detection)),
      button("Delete (Del)", "✕", () => remove(detection)),
    ),
  );
}

export function hover(id) {
  if (state.hovered === id) return;
  state.hovered = id;
  for (const row of rowsOf()) row.classList.toggle("hovered", row.dataset.id === id);
  changed();
}

export function select(id) {
  state.selected = id;
  if (id) focusId = id;
  changed();
  if (id) requestAnimationFrame(() => rowsOf().find((row) => row.dataset.id === id)?.scrollIntoView({ block: "nearest" }));
}

const keeping = (detection, fields) => ({ ...remade(detection, fields), id: detection.id });

export function toggle(detection) {
  replaceOne(detection.id, (each) => [keeping(each, { hidden: !each.hidden })]);
  announce(`${detection.name} is ${detection.hidden ? "shown" : "left out"}.`);
}

export function accept(detection) {
  const back = detection.status === "accepted";
  const fields = back ? { status: detection.before ?? "found" } : { status: "accepted", before: detection.status };
  replaceOne(detection.id, (each) => [keeping(each, fields)]);
  announce(`${detection.name} is ${back ? "no longer accepted" : "accepted"}.`);
}

export function remove(detection) {
  const rows = rowsOf();
  const at = rows.findIndex((row) => row.dataset.id === detection.id);
  focusId = (rows[at + 1] ?? rows[at - 1])?.dataset.id ?? null;
  if (state.selected === detection.id) state.selected = null;
  state.hovered = null;
  replaceOne(detection.id, () => []);
  announce(`${detection.name} was deleted. Control Z brings it back.`);
}

/** Another name, and of a part perhaps another object: `owners` and `alone` as a detection has them. */
export function rename(detection, name, { owners, alone }) {
  const asBefore = alone === detection.alone && (owners[0] ?? null) === (detection.owners[0] ?? null);
  if (name === detection.name && asBefore) return;
  const status = detection.status === "added" ? "added" : "edited";
  replaceOne(detection.id, (each) => [keeping(each, { name, owners, alone, status })]);
  announce(name === detection.name ? `${name} belongs to another object now.` : `Now called ${name}.`);
}

function fold(id, away) {
  if (away) folded.add(id);
  else folded.delete(id);
  changed();
}

/** Keys of a tree, as the ARIA practices have them, and those that correct. */
export function onTreeKey(event) {
  const row = event.target.closest("[role=treeitem]");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = rowsOf();
  const at = rows.indexOf(row);
  const detection = runOf(photoNow())?.detections?.find((each) => each.id === row.dataset.id);
  const go = (target) => {
    if (!target) return;
    focusId = target.dataset.id;
    for (const each of rows) each.tabIndex = each === target ? 0 : -1;
    target.focus();
    hover(focusId);
  };
  const expanded = row.getAttribute("aria-expanded");
  const actions = {
    ArrowDown: () => go(rows[at + 1]),
    ArrowUp: () => go(rows[at - 1]),
    Home: () => go(rows[0]),
    End: () => go(rows.at(-1)),
    ArrowRight: () => (expanded === "false" ? fold(row.dataset.id, false) : expanded === "true" && go(rows[at + 1])),
    ArrowLeft: () =>
      expanded === "true"
        ? fold(row.dataset.id, true)
        : go(rows.slice(0, at).findLast((each) => each.ariaLevel < row.ariaLevel)),
    Enter: () => select(detection.id === state.selected ? null : detection.id),
    " ": () => toggle(detection),
    Delete: () => remove(detection),
    Backspace: () => remove(detection),
    F2: () => hooks.rename(detection),
    a: () => accept(detection),
  };
  const run = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!run || !detection) return;
  event.preventDefault();
  event.stopPropagation();
  focusId = row.dataset.id;
  run();
}
