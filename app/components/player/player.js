// The view: one moving s, a column for each run, the charts beneath, and the hands that move it.

/** How long after the last key press Python hears of the position, in milliseconds. */
const KEY_REST = 250;
const SLIDER_STEPS = 1000;
/** Milliseconds between texts while playing. */
const TEXT_REST = 120;

const INSTANCES = new WeakMap();

/** Mounts the view, or brings it up to date: Streamlit calls this for new data and for a new theme. */
export default function mountPlayer(component) {
  const { parentElement } = component;
  if (!INSTANCES.has(parentElement)) INSTANCES.set(parentElement, new PlayerView(parentElement));
  INSTANCES.get(parentElement).update(component);
  return () => {
    INSTANCES.get(parentElement)?.dispose();
    INSTANCES.delete(parentElement);
  };
}

class PlayerView {
  constructor(root) {
    this.element = root.querySelector(".player");
    this.template = root.querySelector(".column-template");
    this.slider = this.find(".slider input");
    this.s = 1;
    this.revision = null;
    this.runs = [];
    this.columns = [];
    this.draws = 0;
    this.written = 0;
    this.clock = new Clock({
      range: () => this.range,
      show: (s) => this.showNow(s),
      onChange: (isPlaying) => this.onPlaying(isPlaying),
    });
    this.createCharts();
    this.bindControls();
    this.onBlob = () => this.receive();
    globalThis.addEventListener(BLOB_EVENT, this.onBlob);
    this.resizes = new ResizeObserver(() => this.relayout());
    this.resizes.observe(this.element);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  part(name) {
    return this.find(`[data-part="${name}"]`);
  }

  button(name) {
    return this.find(`[data-action="${name}"]`);
  }

  dispose() {
    // Python must not hear from a component that has left the page.
    this.setStateValue = () => {};
    this.clock.stop();
    clearTimeout(this.rest);
    cancelAnimationFrame(this.request);
    this.resizes.disconnect();
    globalThis.removeEventListener(BLOB_EVENT, this.onBlob);
  }

  createCharts() {
    const handlers = { onMove: (s) => this.moveByHand(clamp(s, ...this.range)), onRelease: () => this.commit() };
    const surface = (name) => new Surface(this.find(`[data-chart="${name}"] canvas`));
    this.charts = {
      lambda: new RunLambdaChart(surface("lambda"), handlers),
      energy: new RunCurveChart(surface("energy"), handlers),
      distance: new RunCurveChart(surface("distance"), handlers),
    };
  }

  bindControls() {
    const actions = {
      back: () => this.stepBy(1),
      forward: () => this.stepBy(-1),
      play: () => this.togglePlay(),
      reverse: () => this.toggle("reverse", "isReversed"),
      loop: () => this.toggle("loop", "isLooping"),
    };
    for (const [name, act] of Object.entries(actions)) this.button(name).onclick = act;
    this.slider.oninput = () => this.moveByHand(this.levelOf(Number(this.slider.value)));
    this.slider.onchange = () => this.commit();
    this.find('[aria-label="Speed"]').onchange = (event) => (this.clock.speed = Number(event.target.value));
    this.part("field").onchange = (event) => this.chooseField(event.target.value);
    this.element.onkeydown = (event) => this.onKey(event);
    this.enableControls(false);
  }

  enableControls(isEnabled) {
    for (const control of this.element.querySelectorAll("button, select, input")) control.disabled = !isEnabled;
  }

  // From Python

  /** Takes what Streamlit hands over; the position counts only with a new revision. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    this.data = data;
    if (data.revision !== this.revision) {
      this.revision = data.revision;
      this.s = data.start;
      this.sent = this.s;
      this.clock.stop();
    }
    this.theme = readTheme(this.element);
    this.element.style.colorScheme = this.theme.dark ? "dark" : "light";
    this.receive();
  }

  /** Takes the runs that Python named as soon as all have arrived; until then the old ones stay. */
  receive() {
    const held = new Map([...this.runs, this.reference].filter(Boolean).map((run) => [run.hash, run]));
    const find = (hash) => getBlob(hash) ?? held.get(hash);
    const runs = this.data.runs.map(find);
    const reference = this.data.reference ? find(this.data.reference) : null;
    if (runs.every(Boolean) && reference !== undefined && !this.isShown(runs, reference)) this.takeRuns(runs, reference);
    this.relayout();
  }

  isShown(runs, reference) {
    if (reference?.hash !== this.reference?.hash) return false;
    return runs.length === this.runs.length && runs.every((run, i) => run.hash === this.runs[i].hash);
  }

  takeRuns(runs, reference) {
    this.runs = runs;
    this.reference = reference;
    this.range = [Math.min(...runs.map((run) => run.arrays.s.values.at(-1))), Math.max(...runs.map((run) => run.arrays.s.values[0]))];
    this.levels = [...new Set(runs.flatMap((run) => [...run.arrays.s.values]))].sort((a, b) => b - a);
    // One scale for all columns, that of the first: colours compare.
    const options = { velocityRange: runs[0].velocity_range, onJump: (s) => this.jump(s) };
    this.columns = runs.map((run, i) => new Column(this.template, i, run, options));
    this.find(".columns").style.setProperty("--count", runs.length);
    this.find(".columns").replaceChildren(...this.columns.map((column) => column.element));
    this.s = clamp(this.s, ...this.range);
    this.element.classList.remove("waiting");
    this.enableControls(true);
    this.offerFields();
    this.offerCharts();
  }

  offerFields() {
    const menu = this.part("field");
    const hasField = this.runs.some((run) => run.arrays.learned);
    const hasExact = this.runs.some((run) => run.arrays.exact);
    menu.hidden = !hasField;
    const options = [["learned", "Field: learned"]];
    if (hasExact) options.push(["exact", "Field: closed form"], ["difference", "Field: learned − closed form"]);
    options.push(["off", "Field: off"]);
    menu.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    this.field = options.some(([value]) => value === this.field) ? this.field : "learned";
    menu.value = this.field;
    this.chooseField(this.field, false);
  }

  chooseField(field, isDrawn = true) {
    this.field = field;
    for (const { panels } of this.columns) panels.field = field;
    if (isDrawn) this.draw();
  }

  offerCharts() {
    const { lambda, energy, distance } = this.charts;
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
    this.shown = [
      ...(this.runs.some((run) => run.arrays.curve) ? ["lambda"] : []),
      ...(withEnergy ? ["energy"] : []),
      ...(withDistance ? ["distance"] : []),
    ];
    for (const name of Object.keys(this.charts)) this.find(`[data-chart="${name}"]`).hidden = !this.shown.includes(name);
    for (const name of ["energy", "distance"]) {
      const legend = this.find(`[data-chart="${name}"] .legend`);
      legend.replaceChildren(...(this.shown.includes(name) ? this.charts[name].curves.map(legendEntry) : []));
    }
  }

  distanceCaption() {
    const what = "Root mean square difference of x_s at equal s; all runs start from the same noise, at 0.";
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
    if (!this.request) this.request = requestAnimationFrame(() => this.draw());
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
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.commit(), KEY_REST);
  }

  /** Tells Python once where t came to rest. */
  commit() {
    clearTimeout(this.rest);
    if (this.s === this.sent) return;
    this.sent = this.s;
    this.setStateValue("position", { s: clamp(this.s, 0, 1), revision: this.revision });
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
    const text = [`s ${this.s.toFixed(2)}`, this.runs[0].native[k], ...this.runs.flatMap((run, i) => this.words(run, i))];
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
}
