// The λ studio: drawn curves, what they cost, looked up in the landscape, and the pictures they give.

const KEY_STEP = 0.02;

/** In the saved picture: two charts are as wide as the four panels. */
const CHART_WIDTH = 2 * EXPORT.panel + EXPORT.gap;

export default function mountView(component) {
  return mount(Studio, component);
}

class Studio extends View {
  constructor(root) {
    super(root.querySelector(".studio"));
    this.slider = this.find("input");
    this.createFigures();
    this.bindControls();
  }

  // Setting up

  createFigures() {
    const onRelease = () => this.commit();
    const scrub = { onMove: (s) => this.moveCursor(s), onRelease };
    this.editor = new CurveEditor(this.surface('[data-chart="curve"]'), {
      onPull: (k, lam, isFirst) => this.pull(k, lam, isFirst),
      onRelease,
    });
    this.gainChart = new GainChart(this.surface('[data-chart="gain"]'), scrub);
    this.slopeChart = new SlopeChart(this.surface('[data-chart="slope"]'), scrub);
    this.landscapeChart = new LandscapeChart(this.surface('[data-chart="landscape"]'), {
      onMove: ([s]) => this.moveCursor(s),
      onRelease,
      onHover: (point) => this.hoverAt(point),
    });
    this.charts = [this.editor, this.gainChart, this.slopeChart, this.landscapeChart];
    const panel = (name) => this.surface(`[data-panel="${name}"]`);
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
    this.button("png").onclick = () => this.saveFigures("png");
    this.button("svg").onclick = () => this.saveFigures("svg");
    this.button("csv").onclick = () => this.saveTable();
    this.button("csv-landscape").onclick = () => this.saveLandscape();
    this.slider.oninput = () => this.moveCursor(this.landscape.s[Number(this.slider.value)]);
    this.slider.onchange = () => this.commit();
    this.editor.surface.canvas.onkeydown = (event) => this.onKey(event);
  }

  // From Python

  /** Takes what Streamlit hands over; curves and cursor count only with a new revision. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    this.data = data;
    this.takeTheme();
    this.receive();
  }

  /** Takes the landscape and the pictures that Python named as soon as they have arrived. */
  receive() {
    const blob = getBlob(this.data.landscape);
    if (blob && this.data.revision !== this.revision) this.takeLandscape(blob);
    if (this.landscape) {
      this.takePictures();
      this.takeBeside();
    }
    this.relayout();
  }

  takeLandscape(blob) {
    this.revision = this.data.revision;
    this.landscape = new Landscape(blob);
    const { s, lam, learned, valley, quality, best, judged, gainCaption } = this.landscape;
    const { start } = this.data;
    this.s = start.s;
    this.curves = start.curves ?? learned.map((curve) => [...curve]);
    this.preset = start.curves ? "" : "learned";
    this.sent = JSON.stringify(this.toPython());
    for (const chart of [this.editor, this.gainChart, this.slopeChart]) Object.assign(chart, { s, valley, judged });
    this.gainChart.bestGain = s.map((_, i) => (this.landscape.isShared ? best[i] - this.landscape.base[i] : NaN));
    const score = quality.map((value, k) => Math.max(CLIP_DB, value - best[k % s.length]));
    this.landscapeChart.setPad({
      arrays: { s: { values: s }, lam: { values: lam }, score: { values: score }, learned: { values: learned[0] } },
      label: "vs best λ",
      unit: "dB",
      higher_is_better: true,
    });
    this.landscapeChart.range = [CLIP_DB, 0];
    this.landscapeChart.valley = valley;
    this.slider.max = s.length - 1;
    write(this.part("gain-caption"), gainCaption);
    this.offerGroups();
    this.chooseGroup(0);
    this.element.classList.remove("waiting");
  }

  offerGroups() {
    const { groups, isShared } = this.landscape;
    const row = this.part("groups");
    row.hidden = isShared;
    this.part("others").hidden = isShared;
    row.replaceChildren(
      ...groups.map((name, g) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
        button.onclick = () => {
          this.chooseGroup(g);
          this.relayout();
        };
        return button;
      }),
    );
  }

  /** The curve of one group of layers is drawn on; the others stand still beside it. */
  chooseGroup(g) {
    this.group = g;
    const { learned, s } = this.landscape;
    for (const chart of [this.editor, this.gainChart]) chart.learned = learned[g];
    this.landscapeChart.learned = learned[g];
    this.slopeChart.learnedSlope = slopesOf(learned[g], s);
    this.slopeChart.setRange();
    this.part("groups").childNodes.forEach((button, i) => button.setAttribute("aria-pressed", i === g));
  }

  /** Another model's curve, under the same cursor. */
  takeBeside() {
    const { beside } = this.data;
    this.beside = beside;
    this.editor.beside = beside?.lam;
    this.slopeChart.besideSlope = beside && slopesOf(beside.lam, this.landscape.s);
    this.slopeChart.setRange();
    this.part("beside").hidden = !beside;
    write(this.part("beside"), beside ? `learned λ(s) of ${beside.name}` : "");
  }

  /** The stored pictures of the Denoise page, over (λ, s), once they have arrived. */
  takePictures() {
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
    this.find(".panels").hidden = !this.data.pad;  // their place is kept while they are on their way
  }

  // Moving

  get curve() {
    return this.curves[this.group];
  }

  set curve(curve) {
    this.curves = this.curves.map((other, g) => (g === this.group ? curve : other));
  }

  get isLearned() {
    return this.curves.every((curve, g) => curve.every((lam, i) => lam === this.landscape.learned[g][i]));
  }

  toPython() {
    const rounded = this.curves.map((curve) => curve.map((lam) => Number(lam.toFixed(4))));
    return { s: this.s, curves: this.isLearned ? null : rounded };
  }

  choose(preset) {
    this.preset = preset;
    const { s, learned, valley } = this.landscape;
    this.curve = presetCurve(preset, { s, learned: learned[this.group], valley, at: this.s });
    this.drawSoon();
    this.commit();
  }

  pull(k, lam, isFirst) {
    if (isFirst) this.held = this.curve;
    this.preset = "";
    this.s = this.landscape.s[k];
    this.curve = pulled(this.held, this.landscape.s, k, lam);
    this.drawSoon();
  }

  moveCursor(s) {
    this.hover = null;
    this.s = this.landscape.s[nearestIndex(this.landscape.s, s)];
    this.drawSoon();
  }

  /** While the mouse is over the landscape, everything shows the noise level under it. */
  hoverAt(point) {
    this.hover = point;
    this.drawSoon();
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
    this.commitAfterRest();
  }

  // Drawing

  moment() {
    const { s } = this.landscape;
    const k = nearestIndex(s, this.hover ? this.hover[0] : this.s);
    const others = this.curves.filter((_, g) => g !== this.group);
    return { k, s: s[k], lam: this.curve[k], curve: this.curve, others, ...this.gains() };
  }

  /** @returns {{gain: number[], total: number[] | null}} looked up, or measured by Python where groups have curves of their own. */
  gains() {
    const { landscape } = this;
    const none = Array.from(landscape.s, () => 0);
    if (this.isLearned) return { gain: none, total: [0, 0, 0] };
    if (landscape.isShared) return { gain: landscape.gain(this.curve), total: landscape.total(this.curve) };
    const { measured } = this.data;
    const isOfThese = JSON.stringify(measured?.curves) === JSON.stringify(this.toPython().curves);
    return isOfThese ? measured : { gain: none.fill(NaN), total: null };
  }

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.landscape || !this.theme) return;
    this.gainChart.fitTo(this.gains().gain);
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
    this.learnedPanels.draw(padMoment(this.sweep, this.pad, [s, this.landscape.learned[this.group][k]]));
    this.drawnPanels.draw(padMoment(this.sweep, this.pad, [s, lam]));
    write(this.part("learned-caption"), `Stored at the λ nearest to ${this.landscape.learned[this.group][k].toFixed(2)}.`);
    write(this.part("drawn-caption"), `Stored at the λ nearest to ${lam.toFixed(2)}.`);
  }

  writeValues({ k, s, lam, gain, total }) {
    const { landscape, hover } = this;
    const learned = landscape.learned[this.group][k];
    this.writeHeadline(total);
    const other = this.beside ? `, ${this.beside.name} ${this.beside.lam[k].toFixed(2)}` : "";
    const here = `At t ${s.toFixed(2)}: λ ${lam.toFixed(2)} (learned ${learned.toFixed(2)}${other})`;
    const known = landscape.isShared ? `  ·  ${(landscape.base[k] + gain[k]).toFixed(2)} dB` : "";
    write(this.part("readout"), Number.isNaN(gain[k]) ? here : `${here}${known}, ${formatGain(gain[k])} dB`);
    write(this.part("lambda-value"), `λ ${lam.toFixed(2)}`);
    write(this.part("gain-value"), Number.isNaN(gain[k]) ? "" : `${formatGain(gain[k])} dB`);
    write(this.part("landscape-value"), this.cellText(k, hover ? hover[1] : lam));
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

  writeHeadline(total) {
    const [mean, low, high] = total ?? [];
    const headline = this.part("headline");
    write(headline, total ? `${formatGain(mean)} dB against the learned curve` : this.unmeasured);
    if (total) headline.dataset.db = mean.toFixed(4);
    else delete headline.dataset.db;
    const isDrawn = total && (low !== 0 || high !== 0);
    write(this.part("interval"), isDrawn ? `${formatGain(low)} to ${formatGain(high)} dB with 95 % confidence` : "\u00a0");
  }

  /** What stands where a curve has no number; a file on its own has nobody to measure it. */
  get unmeasured() {
    return this.data.alone ? "This curve is not measured in this file" : "Measured as soon as you let go";
  }

  /** @returns {string} the landscape at a point: dB below the best λ of that noise level. */
  cellText(k, lam) {
    const { landscape } = this;
    const [reading] = landscape.readings([lam]);
    const loss = landscape.readAt(landscape.quality, 0, k, reading) - landscape.best[k];
    return `${formatGain(loss)} dB vs λ*${this.hover ? ` at λ ${lam.toFixed(2)}` : ""}`;
  }

  // Saving

  saveFigures(format) {
    const figures = (selector) => [...this.element.querySelectorAll(`${selector} figure`)];
    const charts = figures(".charts").map((figure) => figureCell(figure, CHART_WIDTH));
    const rows = [charts.slice(0, 2), charts.slice(2)];
    if (this.pad) rows.push(figures(".panels").map((figure) => figureCell(figure, EXPORT.panel)));
    const texts = [this.landscape.title, ...["headline", "interval"].map((name) => this.part(name).textContent.trim())];
    this.savePicture(texts.filter(Boolean).join("  ·  "), rows, `${this.landscape.title}-studio`, format);
  }

  saveTable() {
    const { s, learned, valley, groups, isShared } = this.landscape;
    const { gain } = this.gains();
    const { beside } = this;
    const named = (name) => groups.map((group) => (isShared ? name : `${name}_${group}`));
    const other = beside ? [`lambda_of_${beside.name}`] : [];
    const header = ["s", ...named("lambda_drawn"), ...named("lambda_learned"), "lambda_best", "gain_db", ...other];
    const at = (curves, i) => curves.map((curve) => curve[i]);
    const rows = Array.from(s, (value, i) => [value, ...at(this.curves, i), ...at(learned, i), valley[i], gain[i], ...(beside ? [beside.lam[i]] : [])]);
    this.saveRows([header, ...rows], "studio");
  }

  saveLandscape() {
    const { s, lam, quality } = this.landscape;
    const header = ["lambda", ...Array.from(s, (value) => `quality_db_at_s_${value.toFixed(4)}`)];
    const rows = Array.from(lam, (value, j) => [value, ...quality.subarray(j * s.length, (j + 1) * s.length)]);
    this.saveRows([header, ...rows], "landscape");
  }

  saveRows(rows, name) {
    downloadCsv(rows, `${this.landscape.title}-${name}.csv`);
  }
}

/** @returns {string} dB with a sign; what rounds to nothing has none. */
function formatGain(value) {
  const digits = Math.abs(value) < 9.95 ? 2 : 1;
  const text = value.toFixed(digits);
  if (Number(text) === 0) return (0).toFixed(digits);
  return value > 0 ? `+${text}` : signed(text);
}
