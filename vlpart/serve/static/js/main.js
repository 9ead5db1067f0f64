// The studio: how its pieces work together.

import { ApiError, getLists, getModels, getNames, getVersion, predict } from "./api.js";
import { $, announce, h, memory, toast } from "./dom.js";
import { openDownloads, setUpDownloads } from "./downloads.js";
import { isKept, isWanted, keepOrForget, restore } from "./keep.js";
import { askName } from "./naming.js";
import {
  changed,
  correct,
  FLOOR,
  hasCorrections,
  isShown,
  keyOf,
  makeDetection,
  onChange,
  photoNow,
  redo,
  remade,
  runOf,
  selectedNow,
  setupOf,
  shownOf,
  sides,
  state,
  summary,
  undo,
} from "./store.js";
import * as tools from "./tools.js";
import { markDone, removeAll, removePhoto, renderTray, setUpTray, step } from "./tray.js";
import * as tree from "./tree.js";
import { camera, View } from "./view.js";
import { check, hide, remember, setUpVocabulary } from "./vocabulary.js";

const views = { A: new View($("canvasA"), "A", tools.overlay), B: new View($("canvasB"), "B", tools.overlay) };
const activeView = () => views[state.active];

// ---- finding

let working = false;

/** Look at every photo that has not been looked at with what is asked for now, the one that is shown first. */
async function work() {
  if (working) return;
  working = true;
  for (;;) {
    const todo = sides().flatMap((side) => state.photos.filter((photo) => runOf(photo, side)?.key !== keyOf(side)).map((photo) => [photo, side]));
    const next = todo.find(([photo]) => photo.id === state.current) ?? todo[0];
    if (!next) break;
    await look(...next);
  }
  working = false;
}

async function look(photo, side) {
  const before = runOf(photo, side);
  const { model, vocabulary } = setupOf(side);
  const run = { key: keyOf(side), status: "running", detections: null, past: [], future: [], abort: new AbortController() };
  photo.runs[side] = run;
  changed();
  try {
    const onWait = () => ((run.busy = true), changed());
    const answer = await predict(photo, { model, vocabulary, floor: FLOOR }, run.abort.signal, onWait);
    fill(run, answer, before);
    if (setupOf(side).fresh) {
      setupOf(side).fresh = false;
      setupOf(side).threshold = Math.max(FLOOR, answer.default_threshold);
    }
    if (photo.id === state.current) announce(`${photo.name}: ${summary(shownOf(photo, side))}`);
  } catch (error) {
    const gone = error.name === "AbortError";
    const kept = corrections(before);
    Object.assign(run, { status: "error", detections: kept, past: kept.length ? before.past : [], error: gone ? "Cancelled." : error.message });
    Object.assign(run, { title: before?.title ?? "", entries: before?.entries ?? [], corrected: before?.corrected });
    if (!gone) toast(`${photo.name}: ${error.message}`, { error: true });
    if (error instanceof ApiError && [0, 401].includes(error.status)) {
      for (const each of state.photos) each.runs[side] ??= { ...run, key: keyOf(side) };
    }
  }
  changed();
}

/** What a person has said of a photo, which stays whatever is looked for. */
const corrections = (run) => (run?.detections ?? []).filter((each) => each.status !== "found");

/** Put an answer into a run; what a person had corrected before stays, in the place of what is found there again. */
function fill(run, answer, before) {
  const made = answer.detections.map((each) =>
    makeDetection({
      name: each.name,
      score: each.score,
      box: each.box_xyxy,
      rle: each.mask ?? null,
      rings: each.rings,
      replacedBelow: each.replaced_below,
    }),
  );
  const kept = corrections(before);
  const again = (found) => kept.some((each) => each.name === found.name && overlap(each.box, found.box) > 0.7);
  const owned = made.map((each, i) => ({ ...each, owners: answer.detections[i].owners.map((at) => made[at].id) }));
  Object.assign(run, {
    status: "done",
    summary: answer.summary,
    title: answer.vocabulary.name,
    entries: answer.vocabulary.entries,
    past: kept.length ? before.past : [],
    corrected: kept.length > 0 && before.corrected,
    detections: [...kept, ...owned.filter((each) => !again(each))].sort((a, b) => b.score - a.score),
  });
}

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Look for what is in the field now. */
async function find() {
  const setup = setupOf();
  hide();
  if (!(await check())) return;
  const text = setup.text.trim();
  if (text !== setup.vocabulary) Object.assign(setup, { vocabulary: text, fresh: true });
  remember(text);
  for (const photo of state.photos) {
    const run = runOf(photo);
    if (run?.status === "running" && run.key !== keyOf(state.active)) run.abort.abort();
    if (run?.status === "error") run.key = null;
  }
  work();
}

// ---- showing

function render() {
  const photo = photoNow();
  document.body.classList.toggle("empty", !photo);
  document.body.classList.toggle("compare", state.compare);
  for (const side of ["A", "B"]) {
    $(`pane${side}`).hidden = side === "B" && !state.compare;
    $(`pane${side}`).classList.toggle("active", side === state.active && state.compare);
    if (sides().includes(side)) views[side].draw();
    const run = runOf(photo, side);
    $(`busy${side}`).hidden = run?.status !== "running";
    $(`busy${side}`).querySelector(".what").textContent = run?.busy ? "Others are first, waiting …" : "Looking …";
    const setup = setupOf(side);
    const asked = setup.vocabulary || "all names";
    $(`title${side}`).textContent = `${side} · ${setup.model} · ${asked}`;
    views[side].canvas.setAttribute("aria-label", photo ? `${photo.name}: ${summary(shownOf(photo, side))}. The list holds the same.` : "No photo");
  }
  renderPanel(photo);
  tree.renderTree();
  renderTray();
  renderTools(photo);
}

function renderPanel(photo) {
  const setup = setupOf();
  const run = runOf(photo);
  const shown = shownOf(photo);
  if ($("vocabulary").value !== setup.text) $("vocabulary").value = setup.text;
  $("model").value = setup.model;
  for (const side of ["A", "B"]) $(`side${side}`).setAttribute("aria-pressed", String(state.active === side));
  $("sides").hidden = !state.compare;
  $("threshold").value = setup.threshold;
  $("threshold-value").textContent = setup.threshold.toFixed(2);
  $("count").textContent = run?.detections ? `${shown.length} of ${run.detections.length} shown` : "";
  $("undo").disabled = !run?.past?.length;
  $("redo").disabled = !run?.future?.length;
  $("accept-all").disabled = !shown.some((each) => each.status === "found");
  $("done-next").disabled = !run?.detections;
  $("done-next").textContent = photo?.done ? "Not done" : state.photos.length > 1 ? "Done, next" : "Done";
  drawScores(run?.detections ?? [], setup.threshold);
}

/** How many detections there are at each score, above the slider. */
function drawScores(detections, threshold) {
  const canvas = $("scores");
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  if (!width) return;
  Object.assign(canvas, { width, height });
  const bins = new Array(40).fill(0);
  const place = (score) => Math.min(bins.length - 1, Math.floor(((score - FLOOR) / (0.95 - FLOOR)) * bins.length));
  for (const { score, status } of detections) if (status === "found") bins[Math.max(0, place(score))]++;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const most = Math.max(4, ...bins);
  bins.forEach((count, i) => {
    context.fillStyle = i >= place(threshold) ? style.color : style.outlineColor;
    const tall = count ? Math.max(2 * ratio, (count / most) * height) : 0;
    context.fillRect((i * width) / bins.length, height - tall, width / bins.length - ratio, tall);
  });
}

function renderTools(photo) {
  const ready = Boolean(runOf(photo)?.detections);
  for (const button of document.querySelectorAll("#toolbar [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === state.tool));
    button.disabled = !ready && button.dataset.tool !== "select";
  }
  $("brush-size").hidden = !["brush", "erase"].includes(state.tool);
  $("zoom").textContent = photo && camera.scale ? `${Math.round(camera.scale * 100)} %` : "";
  $("names").setAttribute("aria-pressed", String(state.showNames));
  $("masks").setAttribute("aria-pressed", String(state.showMasks));
  const target = selectedNow();
  const hints = {
    select: "",
    brush: target ? `Paint to add to ${target.name}` : "Paint something new, or select what to add to",
    erase: target ? `Paint to take from ${target.name}` : "Select what to erase from",
    polygon: "Click corners; Enter, double click or the first corner ends",
    corners: target ? "Drag corners; a click between two makes one, Alt and click removes one" : "Select whose corners to move",
  };
  $("hint").textContent = hints[state.tool];
  document.body.dataset.using = state.tool;
}

// ---- the canvases

function setUpView(view) {
  const { canvas } = view;
  const pointers = new Map();
  let travelled = 0;
  let taken = false;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!photoNow()) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    pointers.set(event.pointerId, at(event));
    travelled = 0;
    if (state.active !== view.side) activate(view.side);
    const paint = event.button === 0 && !event.shiftKey && pointers.size === 1;
    if (pointers.size > 1) tools.cancel();
    taken = paint && tools.down(view, ...at(event), event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const [x, y] = at(event);
    if (!before) {
      if (tools.move(view, x, y)) return changed();
      if (state.tool === "select" || state.tool === "corners") tree.hover(view.side === state.active ? (view.at(x, y)?.id ?? null) : null);
      return undefined;
    }
    travelled += Math.hypot(x - before[0], y - before[1]);
    if (pointers.size === 2) pinch(view, event.pointerId, pointers, [x, y]);
    else if (taken) tools.move(view, x, y);
    else view.pan(x - before[0], y - before[1]);
    pointers.set(event.pointerId, [x, y]);
    return changed();
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (taken) tools.up();
    else if (event.type === "pointerup" && travelled < 5 && event.button === 0) {
      const found = view.at(...at(event));
      tree.select(found && found.id !== state.selected ? found.id : null);
    }
    taken = false;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => (tree.hover(null), tools.leave()));
  canvas.addEventListener("dblclick", () => state.tool === "polygon" && tools.finishPolygon());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.shiftKey) view.pan(-event.deltaY, 0);
      else view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...at(event));
      changed();
    },
    { passive: false },
  );
}

function pinch(view, moved, pointers, now) {
  const other = [...pointers].find(([id]) => id !== moved)[1];
  const before = pointers.get(moved);
  const distance = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
  view.zoom(distance(now) / distance(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  view.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
}

function activate(side) {
  state.active = side;
  state.selected = state.hovered = null;
  check();
  changed();
}

// ---- accepting

function acceptAll() {
  const run = runOf(photoNow());
  if (!run?.detections) return;
  const shown = new Set(shownOf(photoNow()).filter((each) => !each.hidden && each.status === "found").map(({ id }) => id));
  correct(
    run,
    run.detections.map((each) => (shown.has(each.id) ? { ...remade(each, { status: "accepted", before: "found" }), id: each.id } : each)),
  );
  announce(`${shown.size} accepted.`);
}

/** Accept what is shown, and go on to the next photo that is not done. */
function doneNext() {
  const photo = photoNow();
  if (!runOf(photo)?.detections) return;
  if (!photo.done && shownOf(photo).some((each) => !each.hidden && each.status === "found")) acceptAll();
  markDone(photo);
}

// ---- keys

function setTool(tool) {
  tools.cancel();
  state.tool = tool;
  changed();
}

const KEYS = {
  v: () => setTool("select"),
  b: () => setTool("brush"),
  e: () => setTool("erase"),
  p: () => setTool("polygon"),
  c: () => setTool("corners"),
  n: () => (state.showNames = !state.showNames),
  m: () => (state.showMasks = !state.showMasks),
  "/": () => $("vocabulary").focus(),
  "+": () => activeView().zoom(1.25),
  "=": () => activeView().zoom(1.25),
  "-": () => activeView().zoom(0.8),
  0: () => activeView().fit(),
  1: () => activeView().zoom(1 / camera.scale),
  "[": () => moveThreshold(-0.01),
  "]": () => moveThreshold(0.01),
  PageDown: () => step(1),
  PageUp: () => step(-1),
  "?": () => $("help").showModal(),
  Enter: () => tools.finishPolygon(),
  Backspace: () => tools.lastPointBack() || deleteSelected(),
  Delete: () => deleteSelected(),
  F2: () => selectedNow() && tree.hooks.rename(selectedNow()),
  a: () => selectedNow() && tree.accept(selectedNow()),
  d: () => doneNext(),
  Escape: () => tools.cancel() || (state.tool === "select" ? tree.select(null) : setTool("select")),
  ArrowLeft: () => activeView().pan(60, 0),
  ArrowRight: () => activeView().pan(-60, 0),
  ArrowUp: () => activeView().pan(0, 60),
  ArrowDown: () => activeView().pan(0, -60),
};

const deleteSelected = () => selectedNow() && tree.remove(selectedNow());

function moveThreshold(by) {
  const setup = setupOf();
  setup.threshold = Math.min(0.95, Math.max(FLOOR, Math.round((setup.threshold + by) * 100) / 100));
  announce(`Threshold ${setup.threshold.toFixed(2)}: ${shownOf(photoNow()).length} shown`);
}

function onKey(event) {
  const typing = event.target.matches("input:not([type=checkbox], [type=range]), textarea, select") || document.querySelector("dialog[open]");
  const { key } = event;
  if ((event.ctrlKey || event.metaKey) && !typing) {
    const lower = key.toLowerCase();
    if (lower === "z") (event.shiftKey ? redo : undo)();
    if (lower === "y") redo();
    if (lower === "z" || lower === "y") event.preventDefault(); // or the browser undoes what was typed into the words
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const slides = event.target.matches("[type=range]") && key.startsWith("Arrow");
  const presses = key === "Enter" && event.target.matches("button, a");
  const run = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!run || slides || presses) return;
  event.preventDefault();
  run();
  changed();
}

// ---- setting up

function setUpButtons() {
  const actions = {
    undo: () => undo(),
    redo: () => redo(),
    "zoom-in": () => activeView().zoom(1.4),
    "zoom-out": () => activeView().zoom(1 / 1.4),
    fit: () => activeView().fit(),
    names: () => (state.showNames = !state.showNames),
    masks: () => (state.showMasks = !state.showMasks),
    "open-help": () => $("help").showModal(),
    "open-download": openDownloads,
    "accept-all": acceptAll,
    "done-next": doneNext,
    "remove-all": removeAll,
    sideA: () => activate("A"),
    sideB: () => activate("B"),
    find,
    compare: toggleCompare,
    theme: nextTheme,
  };
  for (const [id, run] of Object.entries(actions)) $(id).addEventListener("click", () => (run(), changed()));
  for (const button of document.querySelectorAll("#toolbar [data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
  for (const side of ["A", "B"]) $(`cancel${side}`).addEventListener("click", () => runOf(photoNow(), side)?.abort?.abort());
  for (const button of document.querySelectorAll("dialog [data-do=close]")) button.addEventListener("click", () => button.closest("dialog").close());
  $("threshold").addEventListener("input", (event) => ((setupOf().threshold = Number(event.target.value)), changed()));
  $("brush-size").addEventListener("input", (event) => ((state.brush = Number(event.target.value)), changed()));
  $("model").addEventListener("change", (event) => (Object.assign(setupOf(), { model: event.target.value, fresh: true }), find(), changed()));
  $("lists").addEventListener("change", (event) => {
    setupOf().text = event.target.value;
    event.target.selectedIndex = 0;
    find();
    changed();
  });
  $("tree").addEventListener("keydown", tree.onTreeKey);
  $("tree").addEventListener("pointerleave", () => tree.hover(null)); // rows that were drawn anew under the pointer say nothing
}

function toggleCompare() {
  state.compare = !state.compare;
  $("compare").setAttribute("aria-pressed", String(state.compare));
  const { A, B } = state.sides;
  if (state.compare && !B.text) Object.assign(B, { text: A.text, vocabulary: A.vocabulary });
  activate(state.compare ? "B" : "A");
  camera.photo = null;
  work();
}

const THEMES = ["system", "light", "dark"];

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").title = `Colours: ${theme}`;
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(memory.get("theme", "system")) + 1) % THEMES.length];
  memory.set("theme", theme);
  showTheme(theme);
  announce(`Colours: ${theme}`);
}

async function start() {
  showTheme(memory.get("theme", "system"));
  tools.hooks.askName = askName;
  tree.hooks.rename = (detection) => askName(detection, (name, owner) => tree.rename(detection, name, owner));
  for (const view of Object.values(views)) setUpView(view);
  setUpButtons();
  setUpDownloads();
  setUpTray(find);
  setUpVocabulary(find);
  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => hasCorrections() && !isKept() && event.preventDefault());
  $("keep").checked = isWanted();
  $("keep").addEventListener("change", (event) => keepOrForget(event.target.checked));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  onChange(render);
  try {
    const [models, names, lists, version] = await Promise.all([getModels(), getNames(), getLists(), getVersion()]);
    Object.assign(state, { models, names });
    $("model").replaceChildren(...models.map(({ name }) => h("option", { value: name }, name)));
    $("model-row").hidden = models.length < 2;
    $("lists").append(...lists.map(({ name, about, entries }) => h("option", { value: name, title: about }, `${name} (${entries})`)));
    $("version").textContent = `vlpart ${version.vlpart}, torch ${version.torch}, ${version.device}`;
    for (const setup of Object.values(state.sides)) setup.model = models[0].name;
    state.sides.B.model = models[1]?.name ?? models[0].name;
    const again = await restore();
    check();
    if (again) {
      toast(`${again} ${again === 1 ? "photo is" : "photos are"} here again as you left them.`, { action: { label: "Take off", run: removeAll } });
      work();
    }
  } catch (error) {
    toast(error.message, { error: true });
  }
  changed();
}

// For tests and for the curious.
window.vlpart = { state, camera, removePhoto, isShown, isKept };
start();
