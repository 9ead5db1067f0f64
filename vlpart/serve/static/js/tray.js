// Photos: dropped, pasted, picked or taken, and the strip that shows them all.

import { $, announce, h, toast } from "./dom.js";
import { changed, isCorrected, nextId, shownOf, state, summary } from "./store.js";

const SMALL = 2048; // side of the copy that is drawn while the whole photo is in view
const THUMB = 160;

let count = 0;
let added = () => {};
let lastAdded = 0;
const addedAt = () => (lastAdded = Math.max(lastAdded + 1, Date.now())); // the order of the strip

/** Add files that are images; what the browser cannot show is named. */
export async function addFiles(files) {
  const photos = [];
  for (const file of [...files]) { // the list of the field is emptied meanwhile
    try {
      photos.push(await photoOf(file, file.name || `pasted_${++count}.png`));
    } catch {
      toast(`${file.name || "That"} is no photo that this browser can show: convert it to JPEG or PNG.`, { error: true });
    }
  }
  if (!photos.length) return;
  state.photos.push(...photos);
  show(photos[0].id);
  announce(photos.length === 1 ? `${photos[0].name} was added.` : `${photos.length} photos were added.`);
  added(photos);
}

/** A photo of a file that is an image; throws where the browser cannot show it. */
export async function photoOf(file, name) {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const scaled = (side) => {
    const scale = Math.min(1, side / Math.max(width, height));
    const size = { resizeWidth: Math.max(1, Math.round(width * scale)), resizeHeight: Math.max(1, Math.round(height * scale)), resizeQuality: "high" };
    return createImageBitmap(bitmap, size);
  };
  const thumb = h("canvas", { "aria-hidden": "true" });
  const little = await scaled(THUMB);
  Object.assign(thumb, { width: little.width, height: little.height });
  thumb.getContext("2d").drawImage(little, 0, 0);
  const small = Math.max(width, height) > 1.5 * SMALL ? await scaled(SMALL) : null;
  return { id: nextId("p"), name, file, bitmap, small, width, height, thumb, added: addedAt(), done: false, runs: {} };
}

/** Make a photo the one that is looked at. */
export function show(id) {
  state.current = id;
  state.selected = state.hovered = null;
  changed();
}

export function step(by) {
  const at = state.photos.findIndex((photo) => photo.id === state.current);
  const photo = state.photos[at + by];
  if (photo) show(photo.id);
}

export function removePhoto(id) {
  const at = state.photos.findIndex((photo) => photo.id === id);
  const [photo] = state.photos.splice(at, 1);
  for (const run of Object.values(photo.runs)) run.abort?.abort();
  if (state.current === id) show((state.photos[at] ?? state.photos[at - 1])?.id ?? null);
  changed();
  toast(`${photo.name} was taken off the tray.`, {
    action: { label: "Undo", run: () => (state.photos.splice(at, 0, photo), show(photo.id)) },
  });
}

/** Take everything off, and out of this browser. */
export function removeAll() {
  const photos = state.photos.splice(0);
  for (const photo of photos) for (const run of Object.values(photo.runs)) run.abort?.abort();
  show(null);
  toast(`${photos.length} ${photos.length === 1 ? "photo was" : "photos were"} taken off the tray.`, {
    action: { label: "Undo", run: () => (state.photos.push(...photos), show(photos[0].id)) },
  });
}

/** Say that a photo is done, and show the next one that is not; or that it is not done after all. */
export function markDone(photo) {
  photo.done = !photo.done;
  const at = state.photos.indexOf(photo);
  const next = [...state.photos.slice(at + 1), ...state.photos.slice(0, at)].find(({ done }) => !done);
  if (photo.done && next) show(next.id);
  announce(`${photo.name} is ${photo.done ? "done" : "not done"}: ${progress()}.${photo.done && next ? ` Now ${next.name}.` : ""}`);
  changed();
}

const progress = () => `${state.photos.filter(({ done }) => done).length} of ${state.photos.length} done`;

let shownBefore = "";

export function renderTray() {
  const tray = $("tray");
  const run = (photo) => photo.runs[state.active];
  const edits = (photo) => Object.values(photo.runs).map(isCorrected);
  const now = JSON.stringify([state.current, state.photos.map((photo) => [photo.id, photo.done, run(photo)?.status, summary(shownOf(photo)), edits(photo)])]);
  if (now === shownBefore) return;
  shownBefore = now;
  const focused = tray.contains(document.activeElement) ? document.activeElement.dataset.photo : null;
  $("strip").hidden = !state.photos.length;
  $("progress").textContent = progress();
  tray.replaceChildren(
    ...state.photos.map((photo) => {
      const run = photo.runs[state.active];
      const status = run?.status ?? "waiting";
      const marks = [["done", photo.done, "✓"], ["corrected", Object.values(photo.runs).some(isCorrected), "✎"]].filter(([, is]) => is);
      const words = { done: summary(shownOf(photo)), running: "looking", waiting: "waiting", error: run?.error };
      return h(
        "li",
        { class: photo.id === state.current ? "current" : "" },
        h(
          "button",
          {
            class: `photo ${status}`,
            dataset: { photo: photo.id },
            "aria-current": photo.id === state.current ? "true" : null,
            "aria-label": [photo.name, words[status], ...marks.map(([word]) => word)].join(", "),
            title: `${photo.name}\n${words[status]}`,
            onclick: () => show(photo.id),
            onkeydown: (event) => event.key === "Delete" && removePhoto(photo.id),
          },
          photo.thumb,
          h("span", { class: "dot", "aria-hidden": "true" }, marks[0]?.[2] ?? ""),
        ),
        h("button", { class: "off", title: "Take off the tray", "aria-label": `Take ${photo.name} off the tray`, onclick: () => removePhoto(photo.id) }, "✕"),
      );
    }),
  );
  if (focused) tray.querySelector(`[data-photo="${focused}"]`)?.focus();
}

/** Make the page take photos; `onAdded(photos)` is called with new ones. */
export function setUpTray(onAdded) {
  added = onAdded;
  $("files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  for (const button of document.querySelectorAll("[data-do=pick]")) button.addEventListener("click", () => $("files").click());
  for (const button of document.querySelectorAll("[data-do=camera]")) button.addEventListener("click", openCamera);
  for (const button of document.querySelectorAll("[data-do=sample]")) {
    button.addEventListener("click", async () => {
      const blob = await (await fetch("/static/sample.jpg")).blob();
      addFiles([new File([blob], "astronaut.jpg", { type: blob.type })]);
    });
  }
  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => carries(event) && (depth++, document.body.classList.add("dropping")));
  addEventListener("dragleave", (event) => carries(event) && --depth <= 0 && document.body.classList.remove("dropping"));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dropping");
    addFiles(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (files.length) {
      event.preventDefault();
      addFiles(files);
    }
  });
}

// ---- webcam

async function openCamera() {
  const dialog = $("camera");
  const video = dialog.querySelector("video");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "environment" } });
  } catch (error) {
    const why = navigator.mediaDevices ? "the browser did not allow it, or there is none" : "browsers allow it on this machine or over HTTPS only";
    toast(`The camera cannot be used: ${why}.`, { error: true });
    return;
  }
  video.srcObject = stream;
  const end = () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
  dialog.addEventListener("close", end, { once: true });
  $("snap").onclick = () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 }).then((blob) => {
      addFiles([new File([blob], `camera_${++count}.jpg`, { type: blob.type })]);
    });
  };
  dialog.showModal();
}
