// Talking to the server that the page came from.

const TOKEN = "vlpart.token";

const carried = new URLSearchParams(location.hash.slice(1)).get("token");
if (carried) {
  sessionStorage.setItem(TOKEN, carried);
  history.replaceState(null, "", location.pathname); // it does not stay in the address
}

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** An answer; where the server is full, asked for again until `signal` ends it. */
async function ask(path, { method = "GET", body, headers = {}, signal, patient = false, onWait } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const all = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
    let response;
    try {
      response = await fetch(path, { method, body, headers: all, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The server does not answer: is `vlpart serve` still running?");
    }
    if (response.ok) return response;
    if (patient && (response.status === 429 || response.status === 503)) {
      onWait?.();
      await pause(1000 * Number(response.headers.get("Retry-After") || 1), signal);
      continue;
    }
    if (response.status === 401) {
      throw new ApiError(401, "This server asks for a token: open the whole address that it printed, with #token=...");
    }
    let detail = response.statusText;
    try {
      detail = (await response.json()).detail;
    } catch {
      // not from our server: a proxy, perhaps
    }
    throw new ApiError(response.status, String(detail));
  }
}

const json = async (path, options) => (await ask(path, options)).json();

export const getModels = () => json("/v1/models");
export const getNames = async () => (await json("/v1/names")).objects;
export const getLists = () => json("/v1/vocabularies");
export const getVersion = () => json("/v1/version");

/** How a vocabulary is understood; an ApiError says what is wrong with it. */
export const readVocabulary = (vocabulary, model, signal) =>
  json("/v1/vocabulary", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ vocabulary, model }),
    signal,
  });

/** Everything that is found in a photo down to the score `floor`; `onWait()` is called while the server is full. */
export function predict(photo, { model, vocabulary, floor }, signal, onWait) {
  const form = new FormData();
  form.append("image", photo.file, photo.name);
  form.append("model", model);
  if (vocabulary) form.append("vocabulary", vocabulary);
  form.append("threshold", floor);
  form.append("keep_replaced", "true");
  form.append("masks", "rle,rings");
  return json("/v1/predict", { method: "POST", body: form, signal, patient: true, onWait });
}

/** Files of results: [{ photo, result }] and formats in, { blob, name } out. */
export async function exportFiles(items, formats) {
  const form = new FormData();
  for (const { photo } of items) form.append("images", photo.file, photo.name);
  form.append("results", JSON.stringify(items.map(({ result }) => result)));
  form.append("formats", formats.join(","));
  const response = await ask("/v1/export", { method: "POST", body: form, patient: true });
  const [, name] = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition")) || [];
  return { blob: await response.blob(), name: name ? decodeURIComponent(name) : "vlpart" };
}
