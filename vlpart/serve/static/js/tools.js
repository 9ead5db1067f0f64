// Correcting by hand: brush, eraser, polygon, and moving corners.

import { announce } from "./dom.js";
import {
  boxOfRegion,
  clippedBox,
  pathOf,
  regionOf,
  ringsOfRegion,
  rleOf,
  simplified,
} from "./masks.js";
import { changed, correct, makeDetection, photoNow, remade, replaceOne, runOf, selectedNow, state } from "./store.js";
import { camera } from "./view.js";

/** What a tool is doing now: a stroke, a polygon that is begun, a corner that is dragged. */
const doing = { stroke: null, polygon: null, corner: null, pointer: null };

/** `askName(detection)` is called for what was drawn anew. */
export const hooks = { askName: () => {} };

const radius = () => state.brush / camera.scale;
const GRAB = 9; // pixels of the screen

export const isDrawing = () => Boolean(doing.stroke || doing.polygon || doing.corner);

export function cancel() {
  const was = isDrawing();
  Object.assign(doing, { stroke: null, polygon: null, corner: null });
  changed();
  return was;
}

/** A pointer went down on the view at (x, y) of the canvas. True if a tool takes it. */
export function down(view, x, y, event) {
  if (!runOf(photoNow())?.detections) return false;
  const [px, py] = view.toPhoto(x, y);
  if (state.tool === "brush" || state.tool === "erase") {
    if (state.tool === "erase" && !selectedNow()) {
      announce("Select what to erase from first.");
      return true;
    }
    doing.stroke = [px, py];
    changed();
    return true;
  }
  if (state.tool === "polygon") {
    polygonPoint(view, px, py);
    return true;
  }
  if (state.tool === "corners" && selectedNow()) return grab(view, px, py, event.altKey);
  return false;
}

export function move(view, x, y) {
  const [px, py] = view.toPhoto(x, y);
  doing.pointer = [px, py];
  if (doing.stroke) {
    const [lx, ly] = doing.stroke.slice(-2);
    if (Math.hypot(px - lx, py - ly) > radius() / 8) doing.stroke.push(px, py);
    return true;
  }
  if (doing.corner) {
    const { rings, ring, at } = doing.corner;
    rings[ring][at] = px;
    rings[ring][at + 1] = py;
    return true;
  }
  return doing.polygon !== null || ["brush", "erase"].includes(state.tool);
}

export function up() {
  if (doing.stroke) finishStroke();
  if (doing.corner) finishCorner();
}

export function leave() {
  doing.pointer = null;
  changed();
}

// ---- brush and eraser

function drawStroke(context, points) {
  context.lineWidth = 2 * radius();
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(points[0], points[1]);
  if (points.length === 2) context.lineTo(points[0] + 1e-3, points[1]);
  for (let i = 2; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  context.stroke();
}

function finishStroke() {
  const points = doing.stroke;
  doing.stroke = null;
  const photo = photoNow();
  const target = selectedNow();
  const around = boxAround(points, radius() + 2);
  const box = clippedBox(target ? joined(target.box, around) : around, photo.width, photo.height);
  if (box[2] <= box[0] || box[3] <= box[1]) return changed();
  const region = regionOf(box, (context) => {
    if (target) context.fill(target.path, "evenodd");
    context.globalCompositeOperation = state.tool === "erase" ? "destination-out" : "source-over";
    drawStroke(context, points);
  });
  apply(target, region);
}

/** Put a region in the place of the mask of a detection, or make a new detection of it. */
function apply(target, region) {
  const photo = photoNow();
  const box = boxOfRegion(region);
  if (!box) {
    if (target) replaceOne(target.id, () => []);
    return changed();
  }
  const fields = { box, rings: ringsOfRegion(region), rle: rleOf(region, photo.width, photo.height) };
  if (target) {
    const made = remade(target, { ...fields, status: target.status === "added" ? "added" : "edited" });
    replaceOne(target.id, () => [{ ...made, id: target.id }]);
    return undefined;
  }
  return add(fields);
}

function add(fields) {
  const run = runOf(photoNow());
  const made = makeDetection({ ...fields, name: "", score: 1, status: "added" });
  hooks.askName(made, (name, owner) => {
    const named = { ...made, name, ...owner };
    correct(run, [...run.detections, named]);
    state.selected = named.id;
    announce(`${name} was added.`);
  });
}

// ---- polygons

function polygonPoint(view, px, py) {
  const points = (doing.polygon ??= []);
  const near = points.length >= 6 && Math.hypot(px - points[0], py - points[1]) * camera.scale < GRAB;
  if (near) finishPolygon();
  else points.push(px, py);
  changed();
}

export function finishPolygon() {
  const points = doing.polygon;
  doing.polygon = null;
  if (points?.length >= 6) fromRings(null, [points]);
  changed();
  return Boolean(points);
}

export function lastPointBack() {
  if (!doing.polygon) return false;
  doing.polygon.splice(-2);
  if (!doing.polygon.length) doing.polygon = null;
  changed();
  return true;
}

/** Fill rings; the exact mask is what they cover. */
function fromRings(target, rings) {
  const photo = photoNow();
  const box = clippedBox(boxAround(rings.flat(), 1), photo.width, photo.height);
  if (box[2] <= box[0] || box[3] <= box[1]) return;
  apply(target, regionOf(box, (context) => context.fill(pathOf(rings), "evenodd")));
}

// ---- corners

const few = new WeakMap();

/** The outline of a detection with as few corners as a hand can move. */
function cornersOf(detection) {
  if (!few.has(detection)) {
    few.set(detection, detection.rings.map((ring) => (ring.length > 60 ? simplified(ring, 2 / Math.min(camera.scale, 2)) : ring)));
  }
  return few.get(detection);
}

function grab(view, px, py, remove) {
  const target = selectedNow();
  const rings = cornersOf(target).map((ring) => [...ring]);
  let best = { d: GRAB / camera.scale };
  rings.forEach((ring, i) => {
    for (let at = 0; at < ring.length; at += 2) {
      const next = (at + 2) % ring.length;
      const corner = Math.hypot(px - ring[at], py - ring[at + 1]);
      const middle = Math.hypot(px - (ring[at] + ring[next]) / 2, py - (ring[at + 1] + ring[next + 1]) / 2);
      if (corner < best.d) best = { d: corner, ring: i, at };
      else if (middle < best.d) best = { d: middle, ring: i, at, between: true };
    }
  });
  if (best.ring === undefined) return false;
  if (remove && !best.between) {
    rings[best.ring].splice(best.at, 2);
    fromRings(target, rings.filter((ring) => ring.length >= 6));
    return true;
  }
  if (best.between) rings[best.ring].splice((best.at += 2), 0, px, py);
  doing.corner = { target, rings, ring: best.ring, at: best.at };
  changed();
  return true;
}

function finishCorner() {
  const { target, rings } = doing.corner;
  doing.corner = null;
  fromRings(target, rings);
}

// ---- what is being drawn

/** Draw the tool over a view; `ratio` is the device's pixels per pixel. */
export function overlay(context, view, ratio) {
  if (view.side !== state.active || !photoNow()) return;
  const scale = camera.scale * ratio;
  const [width, height] = view.size;
  const [dx, dy] = [(width / 2) * ratio - camera.x * scale, (height / 2) * ratio - camera.y * scale];
  context.setTransform(scale, 0, 0, scale, dx, dy);
  if (doing.stroke) {
    context.globalAlpha = 0.6;
    context.strokeStyle = state.tool === "erase" ? "#000" : "#fff";
    drawStroke(context, doing.stroke);
    context.globalAlpha = 1;
  }
  if (doing.polygon) drawOutline(context, [...doing.polygon, ...(doing.pointer ?? [])], scale, ratio);
  const target = selectedNow();
  if (state.tool === "corners" && target) {
    const rings = doing.corner?.rings ?? cornersOf(target);
    for (const ring of rings) drawOutline(context, ring, scale, ratio, true);
  }
  if (doing.pointer && ["brush", "erase"].includes(state.tool)) {
    context.lineWidth = (1.5 * ratio) / scale;
    for (const [colour, grown] of [["#000", 1], ["#fff", 0]]) {
      context.strokeStyle = colour;
      context.beginPath();
      context.arc(...doing.pointer, radius() + (grown * ratio) / scale, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}

function drawOutline(context, points, scale, ratio, closed = false) {
  const size = (3.5 * ratio) / scale;
  context.beginPath();
  for (let i = 0; i < points.length; i += 2) context.lineTo(points[i], points[i + 1]);
  if (closed) context.closePath();
  context.strokeStyle = "#fff";
  context.lineWidth = (1.5 * ratio) / scale;
  context.stroke();
  context.fillStyle = "#fff";
  context.strokeStyle = "#16181d";
  for (let i = 0; i < points.length; i += 2) {
    context.beginPath();
    context.rect(points[i] - size, points[i + 1] - size, 2 * size, 2 * size);
    context.fill();
    context.stroke();
  }
}

function boxAround(points, margin) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < points.length; i += 2) {
    box[0] = Math.min(box[0], points[i] - margin);
    box[1] = Math.min(box[1], points[i + 1] - margin);
    box[2] = Math.max(box[2], points[i] + margin);
    box[3] = Math.max(box[3], points[i + 1] + margin);
  }
  return box;
}

const joined = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
