// What every view does: find its parts, wait for blobs, fit its size, and tell Python once where the hand has let go.

/** How long after the last key press Python hears of the position, in milliseconds. */
const KEY_REST = 250;

const INSTANCES = new WeakMap();

/** Mounts a view, or brings it up to date: Streamlit calls this for new data and for a new theme. */
function mount(Kind, component) {
  const { parentElement } = component;
  if (!INSTANCES.has(parentElement)) INSTANCES.set(parentElement, new Kind(parentElement));
  INSTANCES.get(parentElement).update(component);
  return () => {
    INSTANCES.get(parentElement)?.dispose();
    INSTANCES.delete(parentElement);
  };
}

/** A kind of view provides `receive()`, `relayout(ratio)`, `draw()`, and `toPython()`, the position that Python is told. */
class View {
  constructor(element) {
    this.element = element;
    this.revision = null;
    this.request = 0;
    this.onBlob = () => this.receive();
    globalThis.addEventListener(BLOB_EVENT, this.onBlob);
    this.resizes = new ResizeObserver(() => this.relayout());
    this.resizes.observe(element);
  }

  dispose() {
    // Python must not hear from a component that has left the page.
    this.setStateValue = () => {};
    clearTimeout(this.rest);
    cancelAnimationFrame(this.request);
    this.resizes.disconnect();
    globalThis.removeEventListener(BLOB_EVENT, this.onBlob);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** @returns {HTMLElement} a place for a text. */
  part(name) {
    return this.find(`[data-part="${name}"]`);
  }

  button(name) {
    return this.find(`[data-action="${name}"]`);
  }

  /** @param {Object<string, () => void>} actions what the buttons do, by their names. */
  bindButtons(actions) {
    for (const [name, act] of Object.entries(actions)) this.button(name).onclick = act;
  }

  enableControls(isEnabled) {
    for (const control of this.element.querySelectorAll("button, select, input")) control.disabled = !isEnabled;
  }

  /** @returns {Surface} the canvas below an element. */
  surface(selector) {
    return new Surface(this.find(`${selector} canvas`));
  }

  takeTheme() {
    this.theme = readTheme(this.element);
    this.element.style.colorScheme = this.theme.dark ? "dark" : "light";
  }

  /** Draws before the screen is next painted, once however often it is asked. */
  drawSoon() {
    if (!this.request) this.request = requestAnimationFrame(() => this.draw());
  }

  /** Tells Python once where the hand has let go. */
  commit() {
    clearTimeout(this.rest);
    const position = JSON.stringify(this.toPython());
    if (position === this.sent) return;
    this.sent = position;
    this.setStateValue("position", { ...this.toPython(), revision: this.revision });
  }

  commitAfterRest() {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.commit(), KEY_REST);
  }

  /** Saves rows of cells under one heading, as "png" or "svg". */
  savePicture(heading, rows, stem, format) {
    const save = (blob) => download(blob, `${stem}.${format}`);
    const { theme } = this;
    Surface.inVectors = format === "svg";
    // A file opened elsewhere finds another font than the page's, and texts are broken by the width that they have.
    if (Surface.inVectors) this.theme = { ...theme, font: COMMON_FONT };
    // The canvases are as fine as the picture only for as long as it is composed, so the screen never shows that.
    this.relayout(EXPORT.fineness);
    const picture = { heading, rows, theme: this.theme };
    if (Surface.inVectors) save(composeVectors(picture).toBlob());
    else composePicture(picture).toBlob(save);
    Surface.inVectors = false;
    this.theme = theme;
    this.relayout();
  }
}
