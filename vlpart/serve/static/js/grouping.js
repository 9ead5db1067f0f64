// Which part belongs to which object, for what is shown now; the server's answer where it still holds.

import { objectName, partName } from "./store.js";

const ENOUGH = 0.5; // share of a part that must lie in its object
const TIE = 0.05; // shares this close say nothing
const POINTS = 300;

const probe = new OffscreenCanvas(1, 1).getContext("2d");
const known = new WeakMap();

/** Points spread evenly over a detection. */
function pointsOf(detection) {
  if (known.has(detection)) return known.get(detection);
  const [x0, y0, x1, y1] = detection.box;
  const step = Math.max(Math.sqrt(((x1 - x0) * (y1 - y0)) / POINTS), 0.25);
  const points = [];
  for (let y = y0 + step / 2; y < y1; y += step) {
    for (let x = x0 + step / 2; x < x1; x += step) {
      if (probe.isPointInPath(detection.path, x, y, "evenodd")) points.push([x, y]);
    }
  }
  if (!points.length) points.push([(x0 + x1) / 2, (y0 + y1) / 2]);
  known.set(detection, points);
  return points;
}

/** Share of `part` that lies inside `object`, 0..1. */
export function shareInside(part, object) {
  const points = pointsOf(part);
  return points.filter(([x, y]) => probe.isPointInPath(object.path, x, y, "evenodd")).length / points.length;
}

/** [{ object, parts }], and the parts of no object: { groups, loose }. */
export function group(detections) {
  const groups = detections
    .filter((each) => partName(each.name) === null)
    .map((object) => ({ object, parts: [] }));
  const byId = new Map(groups.map((each) => [each.object.id, each]));
  const loose = [];
  for (const part of detections.filter((each) => partName(each.name) !== null)) {
    const wanted = objectName(part.name).toLowerCase();
    if (part.alone) {
      loose.push(part);
      continue;
    }
    const fits = (each) => each && each.object.name.toLowerCase() === wanted;
    const given = part.owners.map((id) => byId.get(id)).find(fits);
    const owner = given ?? bestOwner(part, groups.filter(fits));
    (owner ? owner.parts : loose).push(part);
  }
  return { groups, loose };
}

function bestOwner(part, candidates) {
  const shares = candidates.map((each) => shareInside(part, each.object));
  const most = Math.max(0, ...shares);
  if (most < ENOUGH) return null;
  const tied = candidates.filter((_, i) => shares[i] >= most - TIE);
  const preference = ({ object }) => object.score / Math.sqrt(Math.max(object.area, 1e-6));
  return tied.reduce((best, each) => (preference(each) > preference(best) ? each : best));
}

/** Colours of detections by id: an object has one of its own, each kind of its parts another hue around it. */
export function coloursOf({ groups, loose }) {
  const colours = new Map();
  groups.forEach(({ object, parts }, i) => {
    const base = OBJECTS[i % OBJECTS.length];
    colours.set(object.id, base.colour);
    const kinds = [...new Set(parts.map((part) => part.name))];
    for (const part of parts) colours.set(part.id, partColour(base.hue, kinds.indexOf(part.name)));
  });
  const kinds = [...new Set(loose.map((part) => part.name))];
  for (const part of loose) colours.set(part.id, partColour(200, kinds.indexOf(part.name)));
  return colours;
}

// The colours of objects that the pictures of `vlpart predict` have, chosen to differ for colour-blind eyes, too.
const OBJECTS = [
  { colour: "rgb(12 190 188)", hue: 194 },
  { colour: "rgb(255 126 22)", hue: 52 },
  { colour: "rgb(45 84 196)", hue: 264 },
  { colour: "rgb(163 38 78)", hue: 4 },
  { colour: "rgb(235 224 30)", hue: 106 },
  { colour: "rgb(159 120 228)", hue: 295 },
  { colour: "rgb(132 237 255)", hue: 210 },
  { colour: "rgb(167 101 29)", hue: 62 },
];

const partColour = (hue, kind) =>
  `oklch(${kind % 2 ? 0.82 : 0.72} 0.17 ${((hue + 180 + 137.5 * kind) % 360).toFixed(0)})`;
