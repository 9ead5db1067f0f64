// What the page knows: photos, what was looked for on each side, what was found, and how it was corrected.
//
// A detection never changes: a correction is another one in its place, so that undoing is going back to an earlier list.

import { areaOf, pathOf, ringOfBox, topOf } from "./masks.js";

/** The lowest score that is asked for: the threshold moves above it without computing anew. */
export const FLOOR = 0.15;
const UNDO = 100;

export const state = {
  models: [],
  names: {},
  photos: [],
  current: null, // id of a photo
  compare: false,
  active: "A", // the side that the panel is about
  sides: {
    // `text` is in the field, `vocabulary` is looked for; `fresh`: the next answer says which threshold fits
    A: { model: "", text: "", vocabulary: "", threshold: 0.5, fresh: true },
    B: { model: "", text: "", vocabulary: "", threshold: 0.5, fresh: true },
  },
  selected: null, // id of a detection on the active side
  hovered: null,
  tool: "select",
  brush: 12, // radius in pixels of the screen
  showNames: true,
  showMasks: true,
};

const listeners = new Set();
let pending = false;

/** Call `listener` once per frame in which something has changed. */
export const onChange = (listener) => listeners.add(listener);

/** Say that something has changed. */
export function changed() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    for (const listener of listeners) listener();
  });
}

let lastId = 0;
const START = Date.now().toString(36); // ids of an earlier page may come back
export const nextId = (letter = "d") => `${letter}${START}_${++lastId}`;

export const sides = () => (state.compare ? ["A", "B"] : ["A"]);
export const photoNow = () => state.photos.find((photo) => photo.id === state.current) ?? null;
export const runOf = (photo, side = state.active) => photo?.runs[side] ?? null;
export const setupOf = (side = state.active) => state.sides[side];
export const keyOf = (side) => JSON.stringify([state.sides[side].model, state.sides[side].vocabulary]);

export const objectName = (name) => (name.includes(":") ? name.split(":")[0].trim() : name);
export const partName = (name) => (name.includes(":") ? name.slice(name.indexOf(":") + 1).trim() : null);

/** A detection of the page, of one of the server's answer or of a correction. */
export function makeDetection(fields) {
  const rings = fields.rings?.length ? fields.rings : [ringOfBox(fields.box)];
  return {
    id: nextId(),
    status: "found", // or accepted, edited, added
    hidden: false,
    owners: [], // ids of its objects, of which the first that is shown counts
    alone: false, // a person has said that it belongs to nothing here
    replacedBelow: null,
    rle: null,
    ...fields,
    rings,
    path: pathOf(rings),
    area: areaOf(rings),
    top: topOf(rings),
  };
}

/** The same detection in another state. */
export const remade = (detection, fields) => makeDetection({ ...detection, ...fields });

/** Whether a detection counts at a threshold. What a person has touched always does. */
export function isShown(detection, threshold) {
  if (detection.status !== "found") return true;
  const replaced = detection.replacedBelow !== null && threshold < detection.replacedBelow;
  return detection.score > threshold && !replaced;
}

/** The detections of a photo that count now, best first. */
export function shownOf(photo, side = state.active) {
  const run = runOf(photo, side);
  return run?.detections ? run.detections.filter((each) => isShown(each, setupOf(side).threshold)) : [];
}

/** The detection that is selected, if it can be seen. */
export const selectedNow = () =>
  shownOf(photoNow()).find((detection) => detection.id === state.selected) ?? null;

/** Put other detections in the place of those of a run; `undo` brings the earlier ones back. */
export function correct(run, detections) {
  run.past.push(run.detections);
  if (run.past.length > UNDO) run.past.shift();
  run.future = [];
  run.detections = [...detections].sort((a, b) => b.score - a.score);
  changed();
}

export function undo(run = runOf(photoNow())) {
  if (!run?.past?.length) return false;
  run.future.push(run.detections);
  run.detections = run.past.pop();
  changed();
  return true;
}

export function redo(run = runOf(photoNow())) {
  if (!run?.future?.length) return false;
  run.past.push(run.detections);
  run.detections = run.future.pop();
  changed();
  return true;
}

/** Change one detection of the photo that is shown. */
export function replaceOne(id, make) {
  const run = runOf(photoNow());
  if (!run?.detections) return;
  correct(
    run,
    run.detections.flatMap((each) => (each.id === id ? (make(each) ?? []) : [each])),
  );
}

/** Whether a person has corrected anything in a run; `corrected`: before the page was opened again. */
export const isCorrected = (run) => Boolean(run?.corrected || run?.past?.length);
export const hasCorrections = () => state.photos.some((photo) => Object.values(photo.runs).some(isCorrected));

/** "1 person, 2 eyes": what there is, in words. */
export function summary(detections) {
  const counts = new Map();
  for (const { name, hidden } of detections) {
    const short = partName(name) ?? name;
    if (!hidden) counts.set(short, (counts.get(short) ?? 0) + 1);
  }
  return counts.size ? [...counts].map(([name, count]) => `${count} ${name}`).join(", ") : "nothing found";
}
