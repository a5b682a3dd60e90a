// The view: one position, four panels, up to three charts, and the hands that move it.

export default function mountView(component) {
  return mount(Scrubber, component);
}

class Scrubber extends FrameView {
  constructor(root) {
    super(root.querySelector(".scrubber"));
    this.position = { s: 0, pad: null };
    this.createFigures();
    this.bindControls({
      follow: () => this.followCurve(),
      png: () => this.saveFigures("png"),
      svg: () => this.saveFigures("svg"),
      csv: () => this.saveTable(),
    });
    this.find(".group select").onchange = (event) => (this.player.speed = Number(event.target.value));
    this.find(".heading select").onchange = (event) => this.chooseChart(Number(event.target.value));
  }

  // Setting up

  createFigures() {
    const names = ["clean", "noised", "denoised", "beside", "residual"];
    this.panelSurfaces = Object.fromEntries(names.map((name) => [name, this.surface(`[data-panel="${name}"]`)]));
    const onRelease = () => this.commit();
    const scrub = { onMove: (s) => this.scrubTo(this.frameAt(s)), onRelease };
    this.lambdaChart = new LambdaChart(this.surface('[data-chart="lambda"]'), scrub);
    this.scoreChart = new CurveChart(this.surface('[data-chart="score"]'), scrub);
    this.padChart = new PadChart(this.surface('[data-chart="pad"]'), {
      onMove: (point) => this.moveOffCurve(point),
      onRelease,
    });
  }

  // From Python

  /** Takes what Streamlit hands over; the position counts only at the start, from then on it is the hand's. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    const isStart = !this.data;
    this.data = data;
    if (isStart) {
      this.position = { s: data.start.s, pad: data.start.pad };
      this.sent = JSON.stringify(this.position);
      this.player.stop();
    }
    this.find('[data-chart="pad"]').hidden = !data.pad;
    this.takeTheme();
    this.receive();
  }

  /**
   * Takes the sweep that Python named as soon as it has arrived; until then the old one stays, and its pad with it,
   * because a pad's cells mean nothing with another sweep's inputs.
   */
  receive() {
    const lookUp = (hash, held) => (held?.hash === hash ? held : getBlob(hash));
    const sweep = lookUp(this.data.sweep, this.sweep);
    if (sweep) {
      const pad = lookUp(this.data.pad, this.pad);
      if (sweep !== this.sweep) this.takeSweep(sweep);
      if (pad && pad !== this.pad) this.padChart.setPad(pad);
      this.pad = pad;
    }
    this.relayout();
  }

  takeSweep(sweep) {
    this.sweep = sweep;
    this.player.stop();
    this.slider.max = this.last;
    if (sweep.arrays.lam) this.lambdaChart.setSweep(sweep);
    this.find('[data-chart="lambda"]').hidden = !sweep.arrays.lam;
    this.find('[data-panel="beside"]').hidden = !sweep.beside;
    this.element.classList.toggle("two", Boolean(sweep.beside));
    const Panels = sweep.kind === "image" ? ImagePanels : PointPanels;
    this.panels = new Panels(this.panelSurfaces, sweep);
    this.element.classList.remove("waiting");
    this.enableControls(true);
    this.writeCaptions();
    this.offerCharts();
  }

  offerCharts() {
    const { charts } = this.sweep;
    const menu = this.find(".heading select");
    menu.replaceChildren(...charts.map((chart, i) => new Option(chart.title, i)));
    menu.hidden = charts.length < 2;
    this.part("score-title").hidden = charts.length > 1;
    this.find('[data-chart="score"]').hidden = !charts.length;
    const same = charts.findIndex((chart) => chart.title === this.chartTitle);
    if (charts.length) this.takeChart(Math.max(0, same));
  }

  takeChart(index) {
    const chart = this.sweep.charts[index];
    this.chartTitle = chart.title;
    this.find(".heading select").value = index;
    this.scoreChart.setChart(chart, this.sweep.arrays);
    write(this.part("score-title"), chart.title);
    write(this.part("score-caption"), chart.caption);
    this.find(".legend").replaceChildren(...this.scoreChart.curves.map(legendEntry));
  }

  chooseChart(index) {
    this.takeChart(index);
    this.relayout();
  }

  // Moving

  get levels() {
    return this.sweep?.arrays.s.values ?? [];
  }

  get s() {
    return this.position.s;
  }

  moveToFrame(k) {
    this.moveTo({ s: this.levels[k], pad: null });
  }

  /** Holds the parameters at λ whatever the noise level: the two roles of s come apart. */
  moveOffCurve([s, lam]) {
    this.player.stop();
    this.moveTo({ s, pad: [s, lam] });
  }

  followCurve() {
    this.moveToFrame(this.frame);
    this.commit();
    this.slider.focus({ preventScroll: true });
  }

  moveTo(position) {
    this.position = position;
    this.drawSoon();
  }

  toPython() {
    return this.position;
  }

  onOwnKey({ key, target }) {
    return target === this.padChart.surface.canvas && this.onPadKey(key);
  }

  onPadKey(key) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const far = { PageDown: [0, -BIG_STEP], PageUp: [0, BIG_STEP], Home: [-Infinity, 0], End: [Infinity, 0] };
    const step = steps[key] ?? far[key];
    if (!step || !this.pad) return false;
    this.moveOffCurve(this.padChart.neighbour(this.moment(), ...step));
    this.commitAfterRest();
    return true;
  }

  // Drawing

  /** @returns {Moment} what the position shows; without a pad it is always a frame of the sweep. */
  moment() {
    const { s, pad } = this.position;
    return pad && this.pad ? padMoment(this.sweep, this.pad, pad) : sweepMoment(this.sweep, s);
  }

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.sweep) return;
    for (const surface of this.shownPanels()) surface.fit(ratio);
    this.panels.setTheme(this.theme);
    const ramp = divergingTable(this.theme.dark).map((color) => css(color));
    this.find(".ramp").style.background = `linear-gradient(to right, ${ramp})`;
    for (const chart of this.charts()) {
      chart.surface.fit(ratio);
      chart.prepare(this.theme);
    }
    this.draw();
  }

  /** The canvases of the panels; that of a second network only where there is one. */
  shownPanels() {
    const { beside, ...panels } = this.panelSurfaces;
    return [...Object.values(panels), ...(this.sweep.beside ? [beside] : [])];
  }

  charts() {
    const shown = this.sweep.arrays.lam ? [this.lambdaChart] : [];
    if (this.sweep.charts.length) shown.push(this.scoreChart);
    if (this.pad) shown.push(this.padChart);
    return shown;
  }

  draw() {
    cancelAnimationFrame(this.request);
    this.request = 0;
    const moment = this.moment();
    this.panels.draw(moment);
    for (const chart of this.charts()) chart.draw(moment);
    this.writeValues(moment);
    this.markCanvases(moment);
  }

  /** Leaves on every canvas which frame it shows. */
  markCanvases({ k, cell }) {
    const surfaces = [...this.shownPanels(), ...this.charts().map((chart) => chart.surface)];
    for (const { canvas } of surfaces) canvas.dataset.k = k;
    this.padChart.surface.canvas.dataset.pad = cell ? `${cell.i},${cell.j}` : "";
  }

  // Texts

  writeCaptions() {
    const isImage = this.sweep.kind === "image";
    write(this.part("noised-caption"), isImage ? "Shown ÷ √(α²+σ²), clipped to [−1, 1]." : "Shown ÷ √(α²+σ²).");
    const { beside, title } = this.sweep;
    write(this.part("denoised-caption"), beside ? `${title}: its estimate of ` : "The network’s estimate of ");
    write(this.part("beside-caption"), beside ? `${beside.name}, from the same inputs and noise. ${beside.note}` : "");
    write(this.part("lambda-beside"), this.sweep.arrays["beside/lam"] ? ` Dashed: ${beside.name}.` : "");
    const residual = isImage ? "Red: too bright, blue: too dark." : "From each clean point to its estimate.";
    const mean = isImage && this.sweep.arrays.clean.shape[3] === 3 ? " Mean over channels." : "";
    write(this.part("residual-caption"), residual + mean);
    this.find(".scale").hidden = !isImage;
    write(this.part("residual-low"), `−${this.sweep.residual_range}`);
    write(this.part("residual-high"), `+${this.sweep.residual_range}`);
  }

  writeValues(moment) {
    this.slider.value = moment.k;
    this.slider.style.setProperty("--filled", `${(100 * moment.k) / this.slider.max}%`);
    this.slider.setAttribute("aria-valuetext", describe(moment));
    write(this.part("readout"), this.readout(moment));
    write(this.part("process"), `α ${moment.alpha.toFixed(2)}, σ ${formatSigma(moment.sigma)}.`);
    if (moment.learned !== null) write(this.part("lambda-value"), `λ ${moment.learned.toFixed(2)}`);
    write(this.part("clean-caption"), this.cleanCaption(moment));
    this.writeLegend(moment);
    if (this.pad) this.writePadValue(moment);
  }

  readout(moment) {
    const s = moment.s.toFixed(2);
    if (moment.lam === null) return `s ${s}  ·  ${moment.native}`;
    const parameters = describeParameters(moment);
    if (!moment.cell) return `s ${s}  ·  ${parameters}  ·  ${moment.native}`;
    return `noise s ${s}  ·  ${parameters}  ·  ${this.formatScore(moment.score)}`;
  }

  /** The pad holds fewer inputs than the sweep. */
  cleanCaption({ cell, inputs }) {
    const total = this.sweep.arrays.clean.shape[0];
    return cell && inputs.length < total ? `${inputs.length} of the ${total} inputs.` : "The inputs as they are.";
  }

  formatScore(score) {
    const { label, unit } = this.pad;
    return `${label} ${Number.isFinite(score) ? signed(score.toFixed(2)) : "–"} ${unit}`.trim();
  }

  writeLegend(moment) {
    if (!this.sweep.charts.length) return;
    const values = this.scoreChart.valuesAt(moment.s);
    this.find(".legend").childNodes.forEach((entry, i) => {
      write(entry.lastChild, Number.isFinite(values[i]) ? formatValue(values[i]) : "–");
    });
  }

  writePadValue(moment) {
    this.button("follow").disabled = !moment.cell;
    const { canvas } = this.padChart.surface;
    const cell = padMoment(this.sweep, this.pad, [moment.s, moment.lam]);
    write(this.part("pad-value"), this.formatScore(cell.score));
    canvas.setAttribute("aria-valuenow", moment.s.toFixed(2));
    canvas.setAttribute("aria-valuetext", `noise s ${moment.s.toFixed(2)}, parameters λ ${moment.lam.toFixed(2)}`);
  }

  // Saving

  saveFigures(format) {
    const figures = (selector) => [...this.element.querySelectorAll(`${selector} figure:not([hidden])`)];
    const rows = [
      figures(".panels").map((figure) => figureCell(figure, EXPORT.panel)),
      figures(".charts").map((figure) => figureCell(figure, EXPORT.chart.width)),
    ];
    const heading = [this.sweep.title, this.readout(this.moment())].filter(Boolean).join("  ·  ");
    this.savePicture(heading, rows, this.fileStem(), format);
  }

  saveTable() {
    downloadCsv(curvesAsRows(this.sweep), `${this.fileStem()}.csv`);
  }

  fileStem() {
    const title = this.sweep.title
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-|-$/g, "");
    return `${title || "denoise"}-s${this.moment().s.toFixed(2)}`;
  }
}
