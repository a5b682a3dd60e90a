// Tells Python which keys were pressed anywhere on the page.

const MEANING = { ArrowRight: "next", PageDown: "next", " ": "next", ArrowLeft: "back", PageUp: "back", Escape: "leave" };
/** How many presses Python is told of: more than fit between two of its answers. */
const KEPT = 16;

// Of the page, not of one mounting of the element: Streamlit mounts it anew, without a clean-up, when the theme changes.
let presses = [];
let listening = new AbortController();

/** Listens in place of an earlier mounting; Streamlit calls the returned function when the element leaves the page. */
export default function ({ setStateValue, parentElement }) {
  listening.abort();
  const own = (listening = new AbortController());
  const onKey = (event) => {
    const pressed = meaningOf(event);
    if (pressed === null) return;
    event.preventDefault();
    // Numbered and with those before it: a press that overtakes Python's answer to the last one takes nothing away from it.
    const number = (presses.at(-1)?.number ?? 0) + 1;
    presses = [...presses, { number, pressed }].slice(-KEPT);
    setStateValue("presses", presses);
  };
  document.addEventListener("keydown", onKey, { signal: own.signal });
  parentElement.querySelector("span").dataset.listening = "";
  return () => own.abort();
}

/** @returns {string | null} what a key press means; null where it is meant for something else. */
function meaningOf(event) {
  if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return null;
  const target = event.composedPath()[0];
  const isTaken = (selector) => target instanceof Element && target.closest(selector);
  if (isTaken("input, select, textarea, [contenteditable], [role=slider], [role=menu]")) return null;
  // Space presses what has the focus.
  if (event.key === " " && isTaken("button, a, summary")) return null;
  return MEANING[event.key] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
}
