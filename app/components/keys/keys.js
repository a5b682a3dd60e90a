// Tells Python which key was pressed anywhere on the page.

const MEANING = { ArrowRight: "next", PageDown: "next", " ": "next", ArrowLeft: "back", PageUp: "back", Escape: "leave" };

/** Mounts the listener; Streamlit calls the returned function when the element leaves the page. */
export default function ({ setTriggerValue, parentElement }) {
  const onKey = (event) => {
    if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.composedPath()[0];
    const isTaken = (selector) => target instanceof Element && target.closest(selector);
    if (isTaken("input, select, textarea, [contenteditable], [role=slider], [role=menu]")) return;
    // Space presses what has the focus.
    if (event.key === " " && isTaken("button, a, summary")) return;
    const pressed = MEANING[event.key] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
    if (pressed === null) return;
    event.preventDefault();
    setTriggerValue("pressed", pressed);
  };
  document.addEventListener("keydown", onKey);
  parentElement.querySelector("span").dataset.listening = "";
  return () => document.removeEventListener("keydown", onKey);
}
