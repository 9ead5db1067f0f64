// Photos and corrections outlive the page: they are in this browser (IndexedDB) until they are taken off the tray.

import { memory, toast } from "./dom.js";
import { changed, isCorrected, makeDetection, onChange, setupOf, state } from "./store.js";
import { photoOf } from "./tray.js";

const SOON = 400; // milliseconds after a change
const PATIENCE = 1000; // milliseconds for the lock

let database = null; // null = nothing is kept, as in a second tab or where the browser does not allow it
let timer = 0;
let setupWritten = "";
const written = new Map(); // by id of a photo, what of it is in the database

/** Whether a person wants it. */
export const isWanted = () => memory.get("keep", true);

/** Whether what is on the page would be there again after it was closed. */
export const isKept = () => database !== null && isWanted() && !timer && !isBehind();

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** `photos`: what is known of each; `files`: their bytes, written once; `page`: what is looked for. */
const STORES = ["photos", "files", "page"];

const stores = (mode) => {
  const transaction = database.transaction(STORES, mode);
  return [...STORES.map((name) => transaction.objectStore(name)), transaction];
};

/** One tab at a time keeps what it has: two would overwrite each other. False where another one does. */
function alone() {
  if (!navigator.locks) return Promise.resolve(true); // not over plain HTTP from another machine
  const held = new Promise((resolve, reject) => {
    const soon = { signal: AbortSignal.timeout(PATIENCE) }; // a page that is loaded anew still holds it for a moment
    navigator.locks.request("vlpart.keep", soon, () => (resolve(true), new Promise(() => {}))).catch(reject);
  });
  return held.catch(() => false);
}

/** Open what was kept and put it on the page. Resolves to how many photos came back. */
export async function restore() {
  try {
    if (!(await alone())) return 0;
    const request = indexedDB.open("vlpart", 1);
    request.onupgradeneeded = () => {
      for (const name of STORES) request.result.createObjectStore(name);
    };
    database = await asked(request);
    if (!isWanted()) await forget();
    const [photos, , page] = stores("readonly");
    const [kept, setup] = await Promise.all([asked(photos.getAll()), asked(page.get("setup"))]);
    if (kept.length) await comeBack(kept.sort((a, b) => a.added - b.added), setup);
    onChange(later);
    return kept.length;
  } catch {
    database = null; // a browser that keeps nothing: the page works without, and asks before it is closed
    return 0;
  }
}

async function comeBack(kept, setup) {
  for (const [side, each] of Object.entries(setup?.sides ?? {})) {
    const there = state.models.some(({ name }) => name === each.model);
    Object.assign(setupOf(side), each, there ? {} : { model: setupOf(side).model });
  }
  for (const each of kept) {
    try {
      const runs = Object.entries(each.runs).map(([side, run]) => [side, revived(run)]);
      const file = await asked(stores("readonly")[1].get(each.id));
      const { id, name, added, done } = each;
      state.photos.push({ ...(await photoOf(file, name)), id, added, done, runs: Object.fromEntries(runs) });
    } catch {
      toast(`${each.name} was kept, but cannot be shown any more.`, { error: true });
    }
  }
  state.current = state.photos.some(({ id }) => id === setup?.current) ? setup.current : (state.photos[0]?.id ?? null);
  for (const photo of state.photos) written.set(photo.id, mark(photo));
  changed();
}

const revived = (run) => ({ ...run, past: [], future: [], detections: run.detections.map(makeDetection) });

/** What is written of a run: all but what is made of it again. */
function plainRun(run) {
  const { key, status, error, summary, title, entries, detections } = run;
  const plain = detections.map(({ path, area, top, ...fields }) => fields);
  return { key, status, error, summary, title, entries, corrected: isCorrected(run), detections: plain };
}

/** What tells whether a photo has to be written again. */
const mark = (photo) => [photo.done, ...["A", "B"].map((side) => photo.runs[side]?.detections)];
const same = (a, b) => a?.length === b.length && a.every((each, i) => each === b[i]);
const isLooking = (photo) => Object.values(photo.runs).some(({ status }) => status === "running"); // then its last state stays
const setupNow = () => JSON.stringify({ sides: state.sides, current: state.current });
const goesIn = () => (isWanted() ? state.photos : []);
const toWrite = () => goesIn().filter((photo) => !(written.has(photo.id) && isLooking(photo)) && !same(written.get(photo.id), mark(photo)));
const toDelete = () => [...written.keys()].filter((id) => !goesIn().some((photo) => photo.id === id));

const isBehind = () => toWrite().length > 0 || toDelete().length > 0 || setupNow() !== setupWritten;

function later() {
  if (database && !timer && isBehind()) timer = setTimeout(write, SOON);
}

async function write() {
  try {
    const [photos, files, page, transaction] = stores("readwrite");
    for (const photo of toWrite()) {
      const { id, name, added, done } = photo;
      if (!written.has(id)) files.put(photo.file, id);
      written.set(id, mark(photo));
      const runs = Object.entries(photo.runs).filter(([, run]) => run.detections).map(([side, run]) => [side, plainRun(run)]);
      photos.put({ id, name, added, done, runs: Object.fromEntries(runs) }, id);
    }
    for (const id of toDelete()) {
      photos.delete(id);
      files.delete(id);
      written.delete(id);
    }
    setupWritten = setupNow();
    page.put(JSON.parse(setupWritten), "setup");
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } catch {
    database = null;
    toast("This browser has no room to keep photos and corrections: download them before you close the page.", { error: true });
  }
  timer = 0;
  later(); // what has changed meanwhile
}

/** Keep from now on, or forget all that was kept. */
export function keepOrForget(wanted) {
  memory.set("keep", wanted);
  later();
}

async function forget() {
  await Promise.all(stores("readwrite").slice(0, -1).map((store) => asked(store.clear())));
}
