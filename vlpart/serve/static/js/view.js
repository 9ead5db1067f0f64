// A photo with what was found, on a canvas: zoom, pan, drawing, and what is under the pointer.

import { coloursOf, group } from "./grouping.js";
import { partName, photoNow, setupOf, shownOf, state } from "./store.js";

/** Where all panes look: pixels of the screen per pixel of the photo, and the photo's point in their middle. */
export const camera = { scale: 0, x: 0, y: 0, photo: null, whole: true };

const MOST = 40;
const BARS = 76; // pixels that the bars over a photo take
const INK = "#16181d";
const narrow = matchMedia("(max-width: 760px)");

export class View {
  /** `canvas` fills its parent; `side` is whose detections are drawn; `overlay(context, view)` draws on top. */
  constructor(canvas, side, overlay = () => {}) {
    this.canvas = canvas;
    this.side = side;
    this.overlay = overlay;
    this.context = canvas.getContext("2d");
    this.shown = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  get size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  /** The scale at which the whole photo can be seen. */
  get fitting() {
    const photo = photoNow();
    const [width, height] = this.size;
    return photo ? Math.min((width - 16) / photo.width, (height - BARS) / photo.height) : 1;
  }

  fit() {
    const photo = photoNow();
    if (!photo || !this.size[0]) return;
    const scale = this.fitting;
    const up = narrow.matches ? 0 : 20; // the bars are below it; on a phone one is above
    Object.assign(camera, { scale, x: photo.width / 2, y: photo.height / 2 + up / scale, photo: photo.id, whole: true });
  }

  /** Zoom by a factor; the photo's point at (x, y) of the canvas stays there. */
  zoom(factor, x = this.size[0] / 2, y = this.size[1] / 2) {
    const [px, py] = this.toPhoto(x, y);
    camera.scale = Math.min(Math.max(camera.scale * factor, this.fitting * 0.5), MOST);
    const [width, height] = this.size;
    camera.x = px - (x - width / 2) / camera.scale;
    camera.y = py - (y - height / 2) / camera.scale;
    this.keepNear();
  }

  pan(dx, dy) {
    camera.x -= dx / camera.scale;
    camera.y -= dy / camera.scale;
    this.keepNear();
  }

  /** The middle of the canvas is always a point of the photo. */
  keepNear() {
    const photo = photoNow();
    camera.whole = false;
    if (!photo) return;
    camera.x = Math.min(Math.max(camera.x, 0), photo.width);
    camera.y = Math.min(Math.max(camera.y, 0), photo.height);
  }

  toPhoto(x, y) {
    const [width, height] = this.size;
    return [camera.x + (x - width / 2) / camera.scale, camera.y + (y - height / 2) / camera.scale];
  }

  toScreen(x, y) {
    const [width, height] = this.size;
    return [(x - camera.x) * camera.scale + width / 2, (y - camera.y) * camera.scale + height / 2];
  }

  /** The smallest detection at a point of the canvas, or null. */
  at(x, y) {
    const [px, py] = this.toPhoto(x, y);
    const under = this.shown.filter(
      ({ box, path, hidden }) =>
        !hidden &&
        px >= box[0] && px <= box[2] && py >= box[1] && py <= box[3] &&
        this.context.isPointInPath(path, px * 1, py * 1, "evenodd"),
    );
    return under.reduce((best, each) => (best && best.area <= each.area ? best : each), null);
  }

  draw() {
    const photo = photoNow();
    const [width, height] = this.size;
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const context = this.context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    if (!photo?.bitmap || !width) return;
    if (camera.photo !== photo.id || camera.whole) this.fit();
    const scale = camera.scale * ratio;
    context.setTransform(scale, 0, 0, scale, w / 2 - camera.x * scale, h / 2 - camera.y * scale);
    const small = photo.small && scale * photo.width <= photo.small.width;
    context.imageSmoothingEnabled = camera.scale < 3; // near by, pixels are pixels
    context.imageSmoothingQuality = "high";
    context.drawImage(small ? photo.small : photo.bitmap, 0, 0, photo.width, photo.height);
    this.shown = shownOf(photo, this.side);
    this.drawDetections(context, scale, ratio);
    this.overlay(context, this, ratio);
  }

  drawDetections(context, scale, ratio) {
    this.groups = group(this.shown);
    this.colours = coloursOf(this.groups);
    const active = this.side === state.active;
    const hot = active ? (state.hovered ?? state.selected) : null;
    const holders = new Set(this.groups.groups.filter(({ parts }) => parts.length).map(({ object }) => object.id));
    const marks = (each) => each.id === hot || (active && each.id === state.selected);
    const wanted = (each) => !each.hidden && (state.showMasks || marks(each)); // what is selected shows without masks, too
    const drawn = this.shown.filter(wanted).sort((a, b) => b.area - a.area);
    const line = (1.8 * ratio) / scale;
    context.lineJoin = "round";
    for (const each of drawn) {
      const colour = this.colours.get(each.id);
      const marked = marks(each);
      context.fillStyle = colour;
      context.globalAlpha = marked ? 0.55 : holders.has(each.id) ? 0.1 : hot ? 0.2 : 0.38;
      context.fill(each.path, "evenodd");
      context.globalAlpha = 1;
      context.strokeStyle = marked ? "#fff" : INK;
      context.lineWidth = line * (marked ? 3 : 1.9);
      context.globalAlpha = marked ? 0.95 : 0.35;
      context.stroke(each.path);
      context.globalAlpha = 1;
      context.strokeStyle = colour;
      context.lineWidth = line * (marked || holders.has(each.id) ? 1.5 : 1);
      if (each.status === "added" || each.status === "edited") context.setLineDash([line * 5, line * 2.5]);
      context.stroke(each.path);
      context.setLineDash([]);
    }
    this.drawNames(context, drawn, hot, ratio);
  }

  drawNames(context, drawn, hot, ratio) {
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    const taken = [];
    const ordered = [...drawn].sort((a, b) => (b.id === hot) - (a.id === hot) || b.score - a.score);
    for (const each of ordered) {
      if (!state.showNames && each.id !== hot) continue;
      const text = this.labelOf(each, each.id === hot);
      const place = this.placeOf(each, context.measureText(text).width + 12, taken, each.id === hot);
      if (!place) continue;
      taken.push(place);
      const [x, y, width, height] = place;
      context.fillStyle = this.colours.get(each.id);
      context.beginPath();
      context.roundRect(x, y, width, height, 4);
      context.fill();
      context.strokeStyle = "rgb(0 0 0 / 45%)";
      context.lineWidth = 1;
      context.stroke();
      context.fillStyle = isDark(context.fillStyle) ? "#fff" : INK;
      context.fillText(text, x + 6, y + height / 2 + 0.5);
    }
  }

  labelOf(detection, whole) {
    const name = whole ? detection.name : (partName(detection.name) ?? detection.name);
    const mark = detection.status === "accepted" ? " ✓" : "";
    return whole && detection.status === "found" ? `${name} ${detection.score.toFixed(2)}` : name + mark;
  }

  /** Where a label of so many pixels can be: at the upper edge of its detection, away from others; null = nowhere. */
  placeOf({ box, top }, width, taken, must) {
    const height = 19;
    const [x0, y0] = this.toScreen(box[0], box[1]);
    const [x1, y1] = this.toScreen(box[2], box[3]);
    const [w, h] = this.size;
    if (x1 < 0 || y1 < 0 || x0 > w || y0 > h) return null;
    const inside = (x, y) => [
      Math.min(Math.max(x, 2), Math.max(w - width - 2, 2)),
      Math.min(Math.max(y, 2), h - height - 2),
      width,
      height,
    ];
    const middle = (x0 + x1 - width) / 2;
    const [tx, ty] = this.toScreen(...top);
    const wishes = [
      inside(tx - width / 2, ty - height - 2),
      inside(tx - width / 2, ty + 3),
      inside(middle, y0 + 2),
      inside(x1 + 3, y0 + (y1 - y0) * 0.3 - height / 2),
      inside(x0 - width - 3, y0 + (y1 - y0) * 0.3 - height / 2),
      inside(middle, y1 + 2),
    ];
    const free = wishes.find((place) => !taken.some((other) => overlap(place, other)));
    return free ?? (must ? wishes[0] : null);
  }
}

const overlap = ([x, y, w, h], [X, Y, W, H]) => x < X + W + 2 && X < x + w + 2 && y < Y + H + 1 && Y < y + h + 1;

const darkness = new Map();
const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** Whether white letters can be read on a colour better than dark ones. */
function isDark(colour) {
  if (!darkness.has(colour)) {
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b] = pixel.getImageData(0, 0, 1, 1).data;
    darkness.set(colour, 0.299 * r + 0.587 * g + 0.114 * b < 120);
  }
  return darkness.get(colour);
}

/** The colours that a side has now, for the tree. */
export function coloursNow(side) {
  const groups = group(shownOf(photoNow(), side));
  return { groups, colours: coloursOf(groups), threshold: setupOf(side).threshold };
}
