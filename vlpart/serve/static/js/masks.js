// Masks: COCO's run lengths, rings for the even-odd rule, and bitmaps of a region.
//
// A region is { x, y, width, height, data }: data is a Uint8Array of 0 and 1, row by row, of the pixels from (x, y) on.
// Rings are arrays [x, y, x, y, ...] in pixels of the image, where the first pixel covers 0..1.

/** The Path2D of rings, in pixels of the image. */
export function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

/** The rectangle of a box as a ring. */
export const ringOfBox = ([x0, y0, x1, y1]) => [x0, y0, x1, y0, x1, y1, x0, y1];

/** The area inside rings, pixels. */
export function areaOf(rings) {
  let area = 0;
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      const j = (i + 2) % ring.length;
      area += ring[i] * ring[j + 1] - ring[j] * ring[i + 1];
    }
  }
  return Math.abs(area) / 2;
}

/** The uppermost corner of rings, [x, y]. */
export function topOf(rings) {
  let top = [0, Infinity];
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) if (ring[i + 1] < top[1]) top = [ring[i], ring[i + 1]];
  }
  return top;
}

/** What `draw(context)` covers, in image pixels within a box, as a region. */
export function regionOf([x0, y0, x1, y1], draw) {
  const x = Math.floor(x0);
  const y = Math.floor(y0);
  const width = Math.max(1, Math.ceil(x1) - x);
  const height = Math.max(1, Math.ceil(y1) - y);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.translate(-x, -y);
  draw(context);
  const pixels = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height);
  for (let i = 0; i < data.length; i++) data[i] = pixels[4 * i + 3] >= 128 ? 1 : 0;
  return { x, y, width, height, data };
}

/** Cut a box to the image; whole pixels. */
export function clippedBox([x0, y0, x1, y1], width, height) {
  return [
    Math.max(0, Math.floor(x0)),
    Math.max(0, Math.floor(y0)),
    Math.min(width, Math.ceil(x1)),
    Math.min(height, Math.ceil(y1)),
  ];
}

/** The smallest box around the ones of a region, [x0, y0, x1, y1], or null if there are none. */
export function boxOfRegion({ x, y, width, height, data }) {
  let x0 = width;
  let y0 = height;
  let x1 = -1;
  let y1 = -1;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (!data[row * width + column]) continue;
      if (column < x0) x0 = column;
      if (column > x1) x1 = column;
      if (row < y0) y0 = row;
      y1 = row;
    }
  }
  return x1 < 0 ? null : [x + x0, y + y0, x + x1 + 1, y + y1 + 1];
}

/** COCO's RLE of a region of an image, with counts as a list. */
export function rleOf(region, imageWidth, imageHeight) {
  const counts = [];
  let value = 0;
  let run = 0;
  const add = (bit, length) => {
    if (length <= 0) return;
    if (bit === value) run += length;
    else {
      counts.push(run);
      value = bit;
      run = length;
    }
  };
  const { x, y, width, height, data } = region;
  add(0, x * imageHeight);
  for (let column = 0; column < width; column++) {
    add(0, y);
    for (let row = 0; row < height; row++) add(data[row * width + column], 1);
    add(0, imageHeight - y - height);
  }
  add(0, (imageWidth - x - width) * imageHeight);
  counts.push(run);
  return { size: [imageHeight, imageWidth], counts };
}

/** The edges of the ones of a region as rings, with few corners. */
export function ringsOfRegion(region, tolerance = 0.75) {
  const { x, y, width, height, data } = region;
  const at = (column, row) =>
    column >= 0 && row >= 0 && column < width && row < height ? data[row * width + column] : 0;
  const stride = width + 1;
  // From a corner of the grid, the ways along edges that have a one on their right: 1 east, 2 south, 4 west, 8 north.
  const ways = new Uint8Array(stride * (height + 1));
  for (let row = 0; row <= height; row++) {
    for (let column = 0; column <= width; column++) {
      const here = at(column, row);
      const above = at(column, row - 1);
      const left = at(column - 1, row);
      if (here && !above) ways[row * stride + column] |= 1;
      if (!here && above) ways[row * stride + column + 1] |= 4;
      if (here && !left) ways[(row + 1) * stride + column] |= 8;
      if (!here && left) ways[row * stride + column] |= 2;
    }
  }
  const steps = { 1: 1, 2: stride, 4: -1, 8: -stride };
  const turns = { 1: [2, 1, 8], 2: [4, 2, 1], 4: [8, 4, 2], 8: [1, 8, 4] }; // right first: pieces stay apart
  const rings = [];
  for (let start = 0; start < ways.length; start++) {
    while (ways[start]) {
      let way = ways[start] & -ways[start];
      let corner = start;
      const ring = [];
      do {
        ways[corner] &= ~way;
        ring.push(x + (corner % stride), y + Math.floor(corner / stride));
        corner += steps[way];
        way = turns[way].find((next) => ways[corner] & next) ?? 0;
      } while (way && corner !== start);
      if (ring.length >= 8) rings.push(simplified(ring, tolerance));
    }
  }
  return rings;
}

/** A ring with fewer corners, none of which went further than `tolerance` away (Douglas and Peucker, 1973). */
export function simplified(ring, tolerance) {
  const count = ring.length / 2;
  let furthest = 0;
  let most = -1;
  for (let i = 1; i < count; i++) {
    const d = (ring[2 * i] - ring[0]) ** 2 + (ring[2 * i + 1] - ring[1]) ** 2;
    if (d > most) [most, furthest] = [d, i];
  }
  const keep = new Uint8Array(count + 1);
  keep[0] = keep[furthest] = 1;
  const px = (i) => ring[2 * (i % count)];
  const py = (i) => ring[2 * (i % count) + 1];
  const todo = [
    [0, furthest],
    [furthest, count],
  ];
  while (todo.length) {
    const [first, last] = todo.pop();
    const [dx, dy] = [px(last) - px(first), py(last) - py(first)];
    const length = Math.hypot(dx, dy);
    let worst = -1;
    let away = tolerance;
    for (let i = first + 1; i < last; i++) {
      const [ex, ey] = [px(i) - px(first), py(i) - py(first)];
      const d = length ? Math.abs(dx * ey - dy * ex) / length : Math.hypot(ex, ey);
      if (d > away) [away, worst] = [d, i];
    }
    if (worst >= 0) {
      keep[worst] = 1;
      todo.push([first, worst], [worst, last]);
    }
  }
  const out = [];
  for (let i = 0; i < count; i++) if (keep[i]) out.push(ring[2 * i], ring[2 * i + 1]);
  return out.length >= 6 ? out : ring;
}
