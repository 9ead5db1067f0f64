// The field for what to look for: completion from the lists, and what is wrong with it while it is typed.

import { ApiError, readVocabulary } from "./api.js";
import { $, announce, h, memory } from "./dom.js";
import { setupOf, state } from "./store.js";

const MOST = 8;
const RECENT = 8;

let options = [];
let chosen = -1;
let asked = null;

const field = () => $("vocabulary");

/** Where the word at the cursor begins, what it is, and the object whose parts are being named. */
function context() {
  const { value, selectionStart } = field();
  const before = value.slice(0, selectionStart);
  const start = Math.max(...[";", ",", ":", "\n"].map((sign) => before.lastIndexOf(sign))) + 1;
  const piece = before.slice(Math.max(before.lastIndexOf(";"), before.lastIndexOf("\n")) + 1);
  const object = piece.includes(":") ? piece.split(":")[0].trim().toLowerCase() : null;
  const end = selectionStart + /^[^;,:\n]*/.exec(value.slice(selectionStart))[0].length;
  return { start, end, word: before.slice(start).trim().toLowerCase(), object, piece };
}

/** What may be meant: [{ label, hint, text }]. */
function suggestions() {
  const { word, object, piece } = context();
  const fits = (name) => name.startsWith(word) || name.includes(` ${word}`);
  const byStart = (a, b) => b.startsWith(word) - a.startsWith(word) || a.length - b.length;
  if (object !== null) {
    const used = new Set(piece.slice(piece.indexOf(":") + 1).split(",").map((part) => part.trim().toLowerCase()));
    const parts = (state.names[object] ?? []).filter((part) => fits(part.toLowerCase()) && (part === word || !used.has(part.toLowerCase())));
    const rest = (state.names[object] ?? []).filter((part) => !used.has(part.toLowerCase()));
    const found = parts.slice(0, MOST).map((part) => ({ label: part, hint: `part of ${object}`, text: part }));
    if (!word && rest.length > 1) found.unshift({ label: `all ${rest.length} parts`, hint: rest.join(", "), text: rest.join(", ") });
    return found;
  }
  if (!word) return field().value.trim() ? [] : recent().map((text) => ({ label: text, hint: "used before", text }));
  return Object.keys(state.names)
    .filter(fits)
    .sort(byStart)
    .slice(0, MOST)
    .flatMap((name) => {
      const parts = state.names[name];
      const plain = { label: name, hint: "", text: name };
      return parts.length ? [{ label: `${name}:`, hint: parts.join(", "), text: `${name}: ${parts.join(", ")}` }, plain] : [plain];
    })
    .slice(0, MOST);
}

const recent = () => memory.get("vocabularies", ["person: head, hair, eye, nose, mouth, arm, hand", "car: wheel, door, window, headlight"]);

export function remember(text) {
  if (text) memory.set("vocabularies", [text, ...recent().filter((each) => each !== text)].slice(0, RECENT));
}

function show() {
  const list = $("suggestions");
  options = document.activeElement === field() ? suggestions() : [];
  chosen = -1;
  list.replaceChildren(
    ...options.map(({ label, hint }, i) =>
      h(
        "li",
        {
          id: `suggestion${i}`,
          role: "option",
          "aria-selected": "false",
          onpointerdown: (event) => (event.preventDefault(), take(i)),
        },
        h("span", { class: "label" }, label),
        h("span", { class: "hint" }, hint),
      ),
    ),
  );
  list.hidden = !options.length;
  if (options.length) announce(`${counted(options.length, "suggestion")}: arrow down, then Enter`);
  field().removeAttribute("aria-activedescendant");
}

/** Close the suggestions. */
export function hide() {
  options = [];
  $("suggestions").hidden = true;
}

function mark(i) {
  chosen = (i + options.length + 1) % (options.length + 1);
  if (chosen === options.length) chosen = -1;
  [...$("suggestions").children].forEach((each, k) => each.setAttribute("aria-selected", String(k === chosen)));
  if (chosen >= 0) {
    field().setAttribute("aria-activedescendant", `suggestion${chosen}`);
    $(`suggestion${chosen}`).scrollIntoView({ block: "nearest" });
  } else field().removeAttribute("aria-activedescendant");
}

function take(i) {
  const { start, end } = context();
  const { value } = field();
  const space = start > 0 && value[start - 1] !== "\n" ? " " : "";
  field().setRangeText(space + options[i].text, start, end, "end");
  field().dispatchEvent(new Event("input"));
  announce(options[i].text);
}

const counted = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;

/** Ask the server how the text is understood, and say what is wrong with it. */
export async function check(side = state.active) {
  asked?.abort();
  const setup = setupOf(side);
  const text = setup.text.trim();
  const message = $("vocabulary-message");
  if (!text) {
    const own = state.models.find((model) => model.name === setup.model)?.vocabulary;
    message.textContent = own ? `Empty: all names of the list ${own}` : "Empty: all names of the model";
    message.className = "";
    return true;
  }
  asked = new AbortController();
  try {
    const { entries, name, unknown } = await readVocabulary(text, setup.model || undefined, asked.signal);
    const parts = entries.filter((entry) => entry.part).length;
    const listed = name === "custom" ? "" : `List ${name}: `;
    const strange = unknown.length ? `. The model knows no ${unknown.slice(0, 3).join(", ")}: use plain English words` : "";
    message.textContent = `${listed}${counted(entries.length - parts, "object")}, ${counted(parts, "part")}${strange}`;
    message.className = strange ? "wrong" : "";
    field().removeAttribute("aria-invalid");
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) return true; // asked anew meanwhile
    message.textContent = error.message;
    message.className = "wrong";
    field().setAttribute("aria-invalid", "true");
    return false;
  }
}

/** Make the field work; `find()` is called when the text is to be looked for. */
export function setUpVocabulary(find) {
  let timer;
  field().addEventListener("input", () => {
    setupOf().text = field().value;
    show();
    clearTimeout(timer);
    timer = setTimeout(() => check(), 250);
  });
  for (const event of ["focus", "click"]) field().addEventListener(event, show);
  field().addEventListener("blur", () => setTimeout(show, 0));
  field().addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const open = options.length > 0;
    if (event.key === "ArrowDown" && open) mark(chosen + 1);
    else if (event.key === "ArrowUp" && open) mark(chosen < 0 ? options.length - 1 : chosen - 1);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(chosen);
    else if (event.key === "Enter" && !event.shiftKey) {
      hide();
      find();
    } else if (event.key === "Escape" && open) hide();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
