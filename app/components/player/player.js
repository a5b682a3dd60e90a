// The view: one moving s, a column for each run, the charts beneath, and the hands that move it.

const SLIDER_STEPS = 1000;
/** Milliseconds between texts while playing. */
const TEXT_REST = 120;

export default function mountView(component) {
  return mount(PlayerView, component);
}

class PlayerView extends View {
  constructor(root) {
    super(root.querySelector(".player"));
    this.template = root.querySelector(".column-template");
    this.slider = this.find(".slider input");
    this.s = 1;
    this.sample = 0;
    this.runs = [];
    this.columns = [];
    this.shown = [];
    this.draws = 0;
    this.written = 0;
    this.clock = new Clock({
      range: () => this.reached,
      show: (s) => this.showNow(s),
      onChange: (isPlaying) => this.onPlaying(isPlaying),
    });
    this.createCharts();
    this.bindControls();
  }

  dispose() {
    super.dispose();
    this.clock.stop();
  }

  createCharts() {
    const handlers = { onMove: (s) => this.moveByHand(clamp(s, ...this.range)), onRelease: () => this.commit() };
    const surface = (name) => this.surface(`[data-chart="${name}"]`);
    this.charts = {
      lambda: new RunLambdaChart(surface("lambda"), handlers),
      energy: new RunCurveChart(surface("energy"), handlers),
      distance: new RunCurveChart(surface("distance"), handlers),
      plane: new PlaneChart(surface("plane"), { onSelect: (sample) => this.select(sample) }),
    };
  }

  bindControls() {
    const actions = {
      back: () => this.stepBy(1),
      forward: () => this.stepBy(-1),
      play: () => this.togglePlay(),
      reverse: () => this.toggle("reverse", "isReversed"),
      loop: () => this.toggle("loop", "isLooping"),
      png: () => this.saveFigures("png"),
      svg: () => this.saveFigures("svg"),
      csv: () => this.saveTable(),
    };
    this.bindButtons(actions);
    this.slider.oninput = () => this.moveByHand(this.levelOf(Number(this.slider.value)));
    this.slider.onchange = () => this.commit();
    this.find('[aria-label="Speed"]').onchange = (event) => (this.clock.speed = Number(event.target.value));
    this.part("field").onchange = (event) => this.chooseField(event.target.value);
    this.part("compare").onchange = (event) => this.compare(event.target.value);
    this.element.onkeydown = (event) => this.onKey(event);
    this.enableControls(false);
  }

  // From Python

  /** Takes what Streamlit hands over; the position counts only at the start, from then on it is the hand's. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    const isStart = !this.data;
    this.data = data;
    if (isStart) {
      this.s = data.start;
      this.sent = JSON.stringify(this.toPython());
      this.clock.stop();
    }
    this.takeTheme();
    this.receive();
  }

  /** Takes the runs that Python named as soon as all have arrived; until then the old ones stay. */
  receive() {
    const held = new Map([...this.runs, this.reference, this.plane].filter(Boolean).map((blob) => [blob.hash, blob]));
    const find = (hash) => (hash ? (getBlob(hash) ?? held.get(hash)) : null);
    const [runs, reference, plane] = [this.data.runs.map(find), find(this.data.reference), find(this.data.plane)];
    const isComplete = runs.every(Boolean) && reference !== undefined && plane !== undefined;
    if (isComplete && !this.isShown(runs, reference, plane)) this.takeRuns(runs, reference, plane);
    this.relayout();
  }

  isShown(runs, reference, plane) {
    const hashes = (blobs) => blobs.map((blob) => blob?.hash).join();
    return hashes([...runs, reference, plane]) === hashes([...this.runs, this.reference, this.plane]);
  }

  takeRuns(runs, reference, plane) {
    Object.assign(this, { runs, reference, plane });
    const lowest = (run) => run.arrays.s.values.at(-1);
    const high = Math.max(...runs.map((run) => run.arrays.s.values[0]));
    // While states are still to come the slider's scale holds, and playing goes as far as they reach.
    this.reached = [Math.min(...runs.map(lowest)), high];
    this.range = runs.every((run) => run.ended) ? this.reached : [0, high];
    this.levels = [...new Set(runs.flatMap((run) => [...run.arrays.s.values]))].sort((a, b) => b - a);
    this.takeColumns();
    this.s = clamp(this.s, ...this.range);
    this.element.classList.remove("waiting");
    this.enableControls(true);
    this.offerFields();
    this.offerComparisons();
    this.offerCharts();
    this.select(Math.min(this.sample, runs[0].arrays.x.shape[1] - 1), false);
  }

  takeColumns() {
    const { runs } = this;
    // One scale for all columns: colours compare.
    const ranges = { velocity: runs[0].velocity_range, difference: differenceRange(runs) };
    const handlers = { onJump: (s) => this.jump(s), onSelect: (sample) => this.select(sample) };
    this.columns = runs.map((run, i) => new Column(this.template, i, run, { first: runs[0], ranges, ...handlers }));
    this.find(".columns").style.setProperty("--count", runs.length);
    this.find(".columns").replaceChildren(...this.columns.map((column) => column.element));
  }

  offerFields() {
    const menu = this.part("field");
    const hasField = this.runs.some((run) => run.arrays.learned);
    const hasExact = this.runs.some((run) => run.arrays.exact);
    menu.hidden = !hasField;
    const options = [["learned", "Field: learned"]];
    if (hasExact) options.push(["exact", "Field: closed form"], ["difference", "Field: learned − closed form"]);
    options.push(["off", "Field: off"]);
    this.chooseField(fill(menu, options, this.field), false);
  }

  /** What can be seen in the picture that changes its meaning; with several runs of images it is their difference. */
  offerComparisons() {
    const isImage = this.runs[0].kind === "image";
    const isOne = this.runs.length === 1;
    const options = isImage ? [["velocity", "Show: velocity"]] : [["x0", "Show: estimate x̂0"]];
    if (!isOne && isImage) options.unshift(["x", "Show: x_s − A’s"], ["x0", "Show: x̂0 − A’s"]);
    if (!isOne && !isImage) options.push(["difference", "Show: difference from A"]);
    if (this.runs.every((run) => run.arrays.origin)) options.push(["origin", isImage ? "Show: x̂0 − data" : "Show: way back to the data"]);
    const menu = this.part("compare");
    menu.hidden = options.length < 2;
    this.compare(fill(menu, options, this.comparison), false);
  }

  compare(comparison, isDrawn = true) {
    this.comparison = comparison;
    for (const column of this.columns) column.show(comparison);
    if (isDrawn) this.draw();
  }

  /** Follows another sample in the film strips and in the plane. */
  select(sample, isDrawn = true) {
    this.sample = sample;
    this.charts.plane.sample = sample;
    for (const column of this.columns) column.select(sample);
    if (isDrawn) this.relayout();
  }

  chooseField(field, isDrawn = true) {
    this.field = field;
    for (const { panels } of this.columns) panels.field = field;
    if (isDrawn) this.draw();
  }

  offerCharts() {
    const { lambda, energy, distance, plane } = this.charts;
    const curves = (make) =>
      this.runs.map((run, i) => ({ name: LETTERS[i], color: COLUMN_COLORS[i], role: "other", ...make(run) }));
    lambda.setRuns(this.runs);
    const backwards = (values) => values.slice().reverse();
    const withEnergy = this.runs.every((run) => run.arrays.energy);
    if (withEnergy) {
      const of = ({ arrays }) => ({ s: backwards(arrays.s.values), y: backwards(arrays.energy.values) });
      energy.setCurves(curves(of), "energy distance");
    }
    const withDistance = this.runs.length > 1 || this.reference;
    if (withDistance) {
      const from = this.reference ?? this.runs[0];
      distance.setCurves(curves((run) => distanceBetween(run, from)), "RMS difference");
      write(this.part("distance-title"), this.reference ? "Distance from the fine run" : "Distance from column A");
      write(this.part("distance-caption"), this.distanceCaption());
    }
    if (this.plane) plane.setPlane(this.plane, this.runs);
    this.shown = [
      ...(this.runs.some((run) => run.arrays.curve) ? ["lambda"] : []),
      ...(withEnergy ? ["energy"] : []),
      ...(withDistance ? ["distance"] : []),
      ...(this.plane ? ["plane"] : []),
    ];
    for (const name of Object.keys(this.charts)) this.find(`[data-chart="${name}"]`).hidden = !this.shown.includes(name);
    for (const name of ["energy", "distance"]) {
      const legend = this.find(`[data-chart="${name}"] .legend`);
      legend.replaceChildren(...(this.shown.includes(name) ? this.charts[name].curves.map(legendEntry) : []));
    }
  }

  distanceCaption() {
    const start = this.runs[0].arrays.origin ? "each run starts from its own noise of the same data" : "all runs start from the same noise, at 0";
    const what = `Root mean square difference of x_s at equal s; ${start}.`;
    return this.reference ? `${what} Fine run: ${this.reference.name}.` : what;
  }

  // Moving

  levelOf(value) {
    const [low, high] = this.range;
    return high - ((high - low) * value) / SLIDER_STEPS;
  }

  moveByHand(s) {
    this.clock.stop();
    this.s = s;
    this.drawSoon();
  }

  jump(s) {
    this.moveByHand(s);
    this.commit();
  }

  showNow(s) {
    this.s = s;
    this.draw();
  }

  /** To the next s at which any run has a state: −1 towards the sample, 1 towards the noise. */
  stepBy(direction) {
    const levels = direction < 0 ? this.levels : this.levels.toReversed();
    const next = levels.find((s) => direction * (s - this.s) > EPSILON);
    this.moveByHand(next ?? levels.at(-1));
    this.commitAfterRest();
  }

  toPython() {
    return { s: clamp(this.s, 0, 1) };
  }

  onKey(event) {
    if (!this.runs.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    // Menus need their arrow keys, and Space presses a button that has the focus.
    if (target.matches("select") || (key === " " && target.matches("button"))) return;
    if (key === " ") this.togglePlay();
    else if (["ArrowRight", "ArrowUp"].includes(key)) this.stepBy(-1);
    else if (["ArrowLeft", "ArrowDown"].includes(key)) this.stepBy(1);
    else if (key === "Home") this.jump(this.range[1]);
    else if (key === "End") this.jump(this.range[0]);
    else return;
    event.preventDefault();
  }

  togglePlay() {
    clearTimeout(this.rest);
    if (this.clock.isPlaying) this.clock.stop();
    else this.clock.start(this.s);
  }

  toggle(name, property) {
    this.clock[property] = !this.clock[property];
    this.button(name).setAttribute("aria-pressed", this.clock[property]);
  }

  onPlaying(isPlaying) {
    write(this.button("play"), isPlaying ? "Pause" : "Play");
    if (isPlaying) return;
    this.writeTexts();
    this.commit();
  }

  // Drawing

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.runs.length) return;
    for (const column of this.columns) column.relayout(this.theme, ratio);
    for (const name of this.shown) {
      this.charts[name].surface.fit(ratio);
      this.charts[name].prepare(this.theme);
    }
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.request);
    this.request = 0;
    for (const column of this.columns) column.draw(this.s);
    for (const name of this.shown) this.charts[name].draw({ s: this.s });
    this.writeValues();
    this.element.dataset.draws = ++this.draws;
    this.element.dataset.s = this.s.toFixed(6);
  }

  writeValues() {
    const [low, high] = this.range;
    const value = Math.round((SLIDER_STEPS * (high - this.s)) / (high - low));
    this.slider.value = value;
    this.slider.style.setProperty("--filled", `${(100 * value) / SLIDER_STEPS}%`);
    // Texts cost the browser a layout, and nobody reads sixty of them a second.
    const now = performance.now();
    if (this.clock.isPlaying && now - this.written < TEXT_REST) return;
    this.written = now;
    this.writeTexts();
  }

  writeTexts() {
    const { k } = momentOf(this.runs[0], this.s);
    const state = `${LETTERS[0]} at s ${this.runs[0].arrays.s.values[k].toFixed(2)} (${this.runs[0].native[k]})`;
    const text = [`s ${this.s.toFixed(2)}`, state, ...this.runs.flatMap((run, i) => this.words(run, i))];
    write(this.part("readout"), text.join("  ·  "));
    this.slider.setAttribute("aria-valuetext", `s ${this.s.toFixed(2)}`);
    for (const name of ["energy", "distance"]) if (this.shown.includes(name)) this.writeLegend(name);
  }

  /** λ at this step, of each run that has one. */
  words(run, i) {
    if (!run.arrays.lam) return [];
    const { k } = momentOf(run, this.s);
    return [`${LETTERS[i]}: λ ${run.arrays.lam.values[k].toFixed(2)}`];
  }

  writeLegend(name) {
    const { curves } = this.charts[name];
    this.find(`[data-chart="${name}"] .legend`).childNodes.forEach((entry, i) => {
      const value = valueAt(curves[i].s, curves[i].y, this.s);
      write(entry.lastChild, Number.isFinite(value) ? formatValue(value) : "–");
    });
  }

  // Saving

  saveFigures(format) {
    const figures = (element, selector) => [...element.querySelectorAll(`${selector} figure:not([hidden])`)];
    const rows = [
      ...this.columns.map(({ element }) => figures(element, ".panels").map((figure) => figureCell(figure, EXPORT.panel))),
      figures(this.element, ".charts").map((figure) => figureCell(figure, EXPORT.chart.width)),
    ].filter((row) => row.length);
    const names = this.runs.map((run, i) => `${LETTERS[i]} ${run.name}`).join("  ·  ");
    this.savePicture(`s ${this.s.toFixed(2)}  ·  ${names}`, rows, `trajectories-s${this.s.toFixed(2)}`, format);
  }

  saveTable() {
    downloadCsv(runsAsRows(this.runs, this.reference ?? this.runs[0]), "trajectories.csv");
  }
}

/** Fills a menu and returns what is chosen in it: what was, if it is still offered, else the first. */
function fill(menu, options, chosen) {
  menu.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  menu.value = options.some(([value]) => value === chosen) ? chosen : options[0][0];
  return menu.value;
}

/** @returns {(string | number)[][]} one row for each state of each run. */
function runsAsRows(runs, reference) {
  const header = ["run", "name", "step", "s", "native", "nfe", "ms", "lambda", "energy_distance", "rms_distance"];
  const rows = runs.flatMap((run, i) => {
    const { s, lam, energy } = run.arrays;
    const distance = distanceBetween(run, reference).y.toReversed();
    return Array.from(s.values, (at, k) =>
      [LETTERS[i], run.name, k, at, run.native[k], run.nfe[k], run.ms[k], lam?.values[k] ?? "", energy?.values[k] ?? "", distance[k]]);
  });
  return [header, ...rows];
}
