// From the page to files: what is shown now, corrections included, written by the server.

import { exportFiles } from "./api.js";
import { $, memory, save, toast } from "./dom.js";
import { group } from "./grouping.js";
import { objectName, partName, photoNow, runOf, shownOf, state } from "./store.js";

/** A saved result (`format: vlpart.result`) of what is shown of a photo. */
export function resultOf(photo, side, onlyAccepted = false) {
  const run = runOf(photo, side);
  const detections = shownOf(photo, side).filter(
    (each) => !each.hidden && (!onlyAccepted || each.status !== "found"),
  );
  const numbers = new Map(run.entries.map((entry) => [entry.name, entry.id]));
  let last = Math.max(0, ...numbers.values());
  for (const { name } of detections) if (!numbers.has(name)) numbers.set(name, ++last);
  const used = [...new Set(detections.map(({ name }) => name))];
  const entries = (used.length ? used : [...numbers.keys()]).map((name) => {
    const known = run.entries.find((entry) => entry.name === name);
    const part = known ? (known.part ?? null) : partName(name);
    const object = known ? (known.object ?? null) : part === null ? null : objectName(name);
    return part === null ? { id: numbers.get(name), name } : { id: numbers.get(name), name, object, part };
  });
  const masks = detections.every((each) => each.rle);
  const places = new Map(detections.map(({ id }, i) => [id, i]));
  const isPart = new Set(entries.filter(({ part }) => part).map(({ name }) => name));
  const owners = new Map(group(detections).groups.flatMap(({ object, parts }) => parts.map(({ id }) => [id, places.get(object.id)])));
  return {
    format: "vlpart.result",
    version: 2,
    image_size: [photo.height, photo.width],
    vocabulary: { name: run.title, about: "", entries },
    grouping: "given", // as the list has it
    detections: detections.map(({ id, name, score, status, box, rle }) => ({
      name,
      category_id: numbers.get(name),
      score: status === "found" ? score : 1, // a person has said so
      box_xyxy: box,
      object_index: isPart.has(name) ? (owners.get(id) ?? null) : null,
      ...(masks ? { mask: rle } : {}),
    })),
  };
}

const boxes = () => [...$("download").querySelectorAll("[name=format]")];

export function openDownloads() {
  const last = memory.get("formats", ["image", "coco"]);
  for (const box of boxes()) box.checked = last.includes(box.value);
  const several = state.photos.filter((photo) => runOf(photo)?.status === "done").length > 1;
  $("all-photos").disabled = !several;
  if (!several) $("all-photos").checked = false;
  $("only-done").disabled = !state.photos.some(({ done }) => done);
  if ($("only-done").disabled) $("only-done").checked = false;
  $("download").showModal();
}

export function setUpDownloads() {
  $("download-now").addEventListener("click", async () => {
    const formats = boxes().filter((box) => box.checked).map((box) => box.value);
    if (!formats.length) return toast("Choose what to download.");
    memory.set("formats", formats);
    const done = state.photos.filter((photo) => photo.done);
    const chosen = $("only-done").checked ? done : $("all-photos").checked ? state.photos : [photoNow()];
    const photos = chosen.filter((each) => runOf(each)?.status === "done");
    if (!photos.length) return toast("There is nothing to download yet.");
    const button = $("download-now");
    button.disabled = true;
    try {
      const items = photos.map((photo) => ({ photo, result: resultOf(photo, state.active, $("only-accepted").checked) }));
      const { blob, name } = await exportFiles(items, formats);
      save(blob, name);
      $("download").close();
      toast(`Saved ${name}.`);
    } catch (error) {
      $("download").close();
      toast(error.message, { error: true });
    }
    button.disabled = false;
    return undefined;
  });
}
