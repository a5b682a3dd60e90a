// The λ studio: one drawn curve, its cost looked up in the landscape, and the pictures it gives.

/** How long after the last key press Python hears of the curve, in milliseconds. */
const KEY_REST = 250;
const KEY_STEP = 0.02;

/** In the saved picture: two charts are as wide as the four panels. */
const CHART_WIDTH = 2 * EXPORT.panel + EXPORT.gap;

const INSTANCES = new WeakMap();

/** Mounts the studio, or brings it up to date: Streamlit calls this for new data and for a new theme. */
export default function (component) {
  const { parentElement } = component;
  if (!INSTANCES.has(parentElement)) INSTANCES.set(parentElement, new Studio(parentElement));
  INSTANCES.get(parentElement).update(component);
  return () => {
    INSTANCES.get(parentElement)?.dispose();
    INSTANCES.delete(parentElement);
  };
}

class Studio {
  constructor(root) {
    this.element = root.querySelector(".studio");
    this.slider = this.find("input");
    this.revision = null;
    this.request = 0;
    this.createFigures();
    this.bindControls();
    this.onBlob = () => this.receivePictures();
    globalThis.addEventListener(BLOB_EVENT, this.onBlob);
    this.resizes = new ResizeObserver(() => this.relayout());
    this.resizes.observe(this.element);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** @returns {HTMLElement} a place for a text. */
  part(name) {
    return this.find(`[data-part="${name}"]`);
  }

  dispose() {
    // Python must not hear from a component that has left the page.
    this.setStateValue = () => {};
    clearTimeout(this.rest);
    cancelAnimationFrame(this.request);
    this.resizes.disconnect();
    globalThis.removeEventListener(BLOB_EVENT, this.onBlob);
  }

  // Setting up

  createFigures() {
    const surface = (selector) => new Surface(this.find(`${selector} canvas`));
    const onRelease = () => this.commit();
    const scrub = { onMove: (s) => this.moveCursor(s), onRelease };
    this.editor = new CurveEditor(surface('[data-chart="curve"]'), {
      onPull: (k, lam, isFirst) => this.pull(k, lam, isFirst),
      onRelease,
    });
    this.gainChart = new GainChart(surface('[data-chart="gain"]'), scrub);
    this.slopeChart = new SlopeChart(surface('[data-chart="slope"]'), scrub);
    this.landscapeChart = new LandscapeChart(surface('[data-chart="landscape"]'), {
      onMove: ([s]) => this.moveCursor(s),
      onRelease,
    });
    this.charts = [this.editor, this.gainChart, this.slopeChart, this.landscapeChart];
    const panel = (name) => surface(`[data-panel="${name}"]`);
    // The panels draw four pictures each; those that are not wanted go where nobody looks.
    const unseen = () => {
      const hidden = new Surface(newCanvas(1, 1));
      hidden.fit(1);
      return hidden;
    };
    this.shown = [panel("noised"), panel("learned"), panel("drawn"), panel("residual")];
    const [noised, learned, drawn, residual] = this.shown;
    this.learnedSurfaces = { clean: unseen(), noised, denoised: learned, residual: unseen() };
    this.drawnSurfaces = { clean: unseen(), noised: unseen(), denoised: drawn, residual };
  }

  bindControls() {
    for (const button of this.element.querySelectorAll("[data-preset]")) {
      button.onclick = () => this.choose(button.dataset.preset);
    }
    this.find('[data-action="png"]').onclick = () => this.savePicture();
    this.find('[data-action="csv"]').onclick = () => this.saveTable();
    this.slider.oninput = () => this.moveCursor(this.landscape.s[Number(this.slider.value)]);
    this.slider.onchange = () => this.commit();
    this.editor.surface.canvas.onkeydown = (event) => this.onKey(event);
  }

  // From Python

  /** Takes what Streamlit hands over; curve and cursor count only with a new revision or another landscape. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    if (data.revision !== this.revision) {
      this.revision = data.revision;
      this.takeLandscape(data);
      this.s = data.start.s;
      this.preset = data.start.curve ? "" : "learned";
      this.curve = data.start.curve ?? [...data.learned];
      this.sent = JSON.stringify(this.position());
    }
    this.data = data;
    this.theme = readTheme(this.element);
    this.element.style.colorScheme = this.theme.dark ? "dark" : "light";
    this.element.classList.remove("waiting");
    this.receivePictures();
  }

  takeLandscape(data) {
    this.landscape = new Landscape(data);
    this.valley = data.valley;
    const { s, learned, best, base, judged } = this.landscape;
    const shared = { s, learned, valley: data.valley.map((value) => value ?? NaN), judged };
    for (const chart of [this.editor, this.gainChart, this.slopeChart]) Object.assign(chart, shared);
    this.gainChart.bestGain = best.map((value, i) => value - base[i]);
    this.slopeChart.learnedSlope = slopesOf(learned, s);
    this.slopeChart.setRange();
    const score = data.quality.flatMap((row) => row.map((value, i) => Math.max(CLIP_DB, value - best[i])));
    const arrays = { s, lam: data.lam, score, learned };
    const values = Object.fromEntries(Object.entries(arrays).map(([name, list]) => [name, Float32Array.from(list)]));
    this.landscapeChart.setPad({
      arrays: Object.fromEntries(Object.entries(values).map(([name, list]) => [name, { values: list }])),
      label: "vs best λ",
      unit: "dB",
      higher_is_better: true,
    });
    this.landscapeChart.range = [CLIP_DB, 0];
    this.landscapeChart.valley = shared.valley;
    this.slider.max = s.length - 1;
    write(this.part("gain-caption"), data.gain_caption);
  }

  /** The stored pictures of the Denoise page, over (λ, s), once they have arrived. */
  receivePictures() {
    const [sweep, pad] = [getBlob(this.data.sweep), getBlob(this.data.pad)];
    if (sweep && pad && pad !== this.pad) {
      const Panels = sweep.kind === "image" ? ImagePanels : PointPanels;
      this.learnedPanels = new Panels(this.learnedSurfaces, sweep);
      this.drawnPanels = new Panels(this.drawnSurfaces, sweep);
      write(
        this.part("residual-caption"),
        sweep.kind === "image"
          ? `Red: too bright, blue: too dark; full colour at ± ${sweep.residual_range}.`
          : "From each clean point to its estimate.",
      );
      this.sweep = sweep;
    }
    this.pad = sweep && pad ? pad : null;
    this.find(".panels").hidden = !this.pad;
    this.relayout();
  }

  // Moving

  position() {
    return { s: this.s, curve: this.curve.map((value) => Number(value.toFixed(4))) };
  }

  choose(preset) {
    this.preset = preset;
    const { s, learned } = this.landscape;
    this.curve = presetCurve(preset, { s, learned, valley: this.valley, at: this.s });
    this.change();
    this.commit();
  }

  pull(k, lam, isFirst) {
    if (isFirst) this.held = this.curve;
    this.preset = "";
    this.s = this.landscape.s[k];
    this.curve = pulled(this.held, this.landscape.s, k, lam);
    this.change();
  }

  moveCursor(s) {
    this.s = this.landscape.s[nearestIndex(this.landscape.s, s)];
    this.change();
  }

  change() {
    if (!this.request) this.request = requestAnimationFrame(() => this.draw());
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { s } = this.landscape;
    const k = nearestIndex(s, this.s);
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -s.length, End: s.length };
    const pulls = { ArrowUp: KEY_STEP, ArrowDown: -KEY_STEP, PageUp: 5 * KEY_STEP, PageDown: -5 * KEY_STEP };
    if (event.key in moves) this.moveCursor(s[clamp(k + moves[event.key], 0, s.length - 1)]);
    else if (event.key in pulls) this.pull(k, clamp(this.curve[k] + pulls[event.key], 0, 1), true);
    else return;
    event.preventDefault();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.commit(), KEY_REST);
  }

  /** Tells Python once where the hand has let go. */
  commit() {
    clearTimeout(this.rest);
    const position = JSON.stringify(this.position());
    if (position === this.sent) return;
    this.sent = position;
    this.setStateValue("position", { ...this.position(), revision: this.revision });
  }

  // Drawing

  moment() {
    const k = nearestIndex(this.landscape.s, this.s);
    const gain = this.landscape.gain(this.curve);
    return { k, s: this.landscape.s[k], lam: this.curve[k], curve: this.curve, gain };
  }

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.landscape || !this.theme) return;
    this.gainChart.fitTo(this.landscape.gain(this.curve));
    for (const chart of this.charts) {
      chart.surface.fit(ratio);
      chart.prepare(this.theme);
    }
    if (this.pad) {
      for (const surface of this.shown) surface.fit(ratio);
      for (const panels of [this.learnedPanels, this.drawnPanels]) panels.setTheme(this.theme);
    }
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.request);
    this.request = 0;
    const moment = this.moment();
    if (this.gainChart.fitTo(moment.gain)) this.gainChart.prepare(this.theme);
    for (const chart of this.charts) chart.draw(moment);
    if (this.pad) this.drawPictures(moment);
    this.writeValues(moment);
  }

  drawPictures({ k, s, lam }) {
    this.learnedPanels.draw(padMoment(this.sweep, this.pad, [s, this.landscape.learned[k]]));
    this.drawnPanels.draw(padMoment(this.sweep, this.pad, [s, lam]));
    write(this.part("learned-caption"), `Stored at the λ nearest to ${this.landscape.learned[k].toFixed(2)}.`);
    write(this.part("drawn-caption"), `Stored at the λ nearest to ${lam.toFixed(2)}.`);
  }

  writeValues({ k, s, lam, gain }) {
    const { landscape } = this;
    const mean = landscape.mean(gain);
    write(this.part("headline"), `${formatGain(mean)} dB against the learned curve`);
    this.part("headline").dataset.db = mean.toFixed(4);
    const quality = (landscape.base[k] + gain[k]).toFixed(2);
    const learned = landscape.learned[k].toFixed(2);
    const here = `At t ${s.toFixed(2)}: λ ${lam.toFixed(2)} (learned ${learned})`;
    write(this.part("readout"), `${here}  ·  ${quality} dB, ${formatGain(gain[k])} dB`);
    write(this.part("lambda-value"), `λ ${lam.toFixed(2)}`);
    write(this.part("gain-value"), `${formatGain(gain[k])} dB`);
    write(this.part("landscape-value"), `${formatGain(landscape.base[k] + gain[k] - landscape.best[k])} dB vs λ*`);
    write(this.part("slope-value"), `dλ/ds ${signed(slopesOf(this.curve, landscape.s)[k].toFixed(2))}`);
    this.slider.value = k;
    this.slider.style.setProperty("--filled", `${(100 * k) / (landscape.s.length - 1)}%`);
    this.slider.setAttribute("aria-valuetext", `t ${s.toFixed(2)}`);
    const { canvas } = this.editor.surface;
    canvas.setAttribute("aria-valuenow", lam.toFixed(2));
    canvas.setAttribute("aria-valuetext", `λ ${lam.toFixed(2)} at t ${s.toFixed(2)}`);
    for (const button of this.element.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", button.dataset.preset === this.preset);
    }
  }

  // Saving

  savePicture() {
    const figures = (selector) => [...this.element.querySelectorAll(`${selector} figure`)];
    const charts = figures(".charts").map((figure) => figureCell(figure, CHART_WIDTH));
    const rows = [charts.slice(0, 2), charts.slice(2)];
    if (this.pad) rows.push(figures(".panels").map((figure) => figureCell(figure, EXPORT.panel)));
    const heading = `${this.data.title}  ·  ${this.part("headline").textContent}`;
    // The canvases are as fine as the picture only for as long as it is composed, so the screen never shows that.
    this.relayout(EXPORT.fineness);
    const picture = composePicture({ heading, rows, theme: this.theme });
    this.relayout();
    picture.toBlob((blob) => download(blob, `${this.data.title}-studio.png`));
  }

  saveTable() {
    const { s, learned, base, best } = this.landscape;
    const quality = this.landscape.lookUp(this.curve);
    const header = ["s", "lambda_drawn", "lambda_learned", "lambda_best", "db_drawn", "db_learned", "db_best"];
    const rows = s.map((value, i) => [value, this.curve[i], learned[i], this.valley[i] ?? "", quality[i], base[i], best[i]]);
    const text = [header, ...rows].map((row) => row.map(csvField).join(",") + "\r\n").join("");
    download(new Blob([`\ufeff${text}`], { type: "text/csv;charset=utf-8" }), `${this.data.title}-studio.csv`);
  }
}

/** @returns {string} dB with a sign; what rounds to nothing has none. */
function formatGain(value) {
  const digits = Math.abs(value) < 9.95 ? 2 : 1;
  const text = value.toFixed(digits);
  if (Number(text) === 0) return (0).toFixed(digits);
  return value > 0 ? `+${text}` : signed(text);
}
