// The dialog that asks what something is called, and which object a part belongs to.

import { $, h, memory } from "./dom.js";
import { coloursNow } from "./view.js";
import { changed, objectName, partName, photoNow, runOf, state } from "./store.js";

const FOUND = "found"; // by where it lies

/** Objects that are shown and called so, in the order of the tree. */
const objectsCalled = (name) =>
  coloursNow(state.active).groups.groups.map(({ object }) => object).filter((object) => object.name.toLowerCase() === name.toLowerCase());

/** What `choice` of the dialog means for a detection: `owners`, and `alone` for a part of nothing that is shown. */
const ownership = (choice) => ({ owners: choice === FOUND || !choice ? [] : [choice], alone: choice === "" });

/** Offer the objects that fit the name in the field; `chosen` is selected if it is among them. */
function showOwners(detection, chosen) {
  const name = cleaned($("naming-name").value);
  const row = $("naming-owner-row");
  row.hidden = !partName(name);
  if (row.hidden) return;
  const objects = objectsCalled(objectName(name)).filter(({ id }) => id !== detection.id);
  const select = $("naming-owner");
  select.replaceChildren(
    h("option", { value: FOUND }, "the object that it lies in"),
    ...objects.map(({ id, name, score, status }, i) =>
      h("option", { value: id }, objects.length > 1 ? `${name}, number ${i + 1} in the list${status === "found" ? ` (${score.toFixed(2)})` : ""}` : name),
    ),
    h("option", { value: "" }, "none of these"),
  );
  select.value = chosen;
  if (select.selectedIndex < 0) select.value = FOUND;
}

const cleaned = (text) => text.replace(/\s*:\s*/, ":").trim();

/** Ask for a name; `done(name, { owners, alone })` is called unless the dialog is left. */
export function askName(detection, done) {
  const dialog = $("naming");
  const field = $("naming-name");
  const run = runOf(photoNow());
  const known = new Set([...run.entries.map(({ name }) => name), ...run.detections.map(({ name }) => name)]);
  for (const [object, parts] of Object.entries(state.names)) {
    known.add(object);
    for (const part of parts) known.add(`${object}:${part}`);
  }
  $("naming-names").replaceChildren(...[...known].filter(Boolean).map((name) => h("option", { value: name })));
  field.value = detection.name || memory.get("last-name", "");
  const shown = coloursNow(state.active).groups.groups.map(({ object }) => object.id);
  let chosen = detection.alone ? "" : (detection.owners.find((id) => shown.includes(id)) ?? FOUND);
  $("naming-owner").onchange = (event) => (chosen = event.target.value);
  field.oninput = () => showOwners(detection, chosen);
  showOwners(detection, chosen);
  $("naming-title").textContent = detection.name ? `Another name for ${detection.name}` : "What is this?";
  dialog.returnValue = "";
  dialog.onclose = () => {
    const name = cleaned(field.value);
    if (dialog.returnValue !== "ok" || !name) return changed();
    memory.set("last-name", name);
    return done(name, partName(name) ? ownership($("naming-owner").value) : { owners: [], alone: false });
  };
  dialog.showModal();
  field.select();
}
