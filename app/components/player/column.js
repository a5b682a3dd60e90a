// One run on the page: heading, panels, film strip.

const DIFFERENCE_RANGES = [0.05, 0.1, 0.2, 0.5, 1, 2];
const DIFFERENCE_SHARE = 0.98;

/** What the panel that changes its meaning shows: its title and how to read it. */
const MEANINGS = {
  velocity: ["Velocity −d<i>x</i>/d<i>s</i>", "Over the next step; after the last there is none. Red: brighter, blue: darker."],
  x: ["<i>x</i><sub>s</sub> − A’s", "At equal s. Red: brighter than in A, blue: darker."],
  x0: ["<i>x̂</i><sub>0</sub> − A’s", "At equal s. Red: brighter than in A, blue: darker."],
  origin: ["<i>x̂</i><sub>0</sub> − data", "Red: brighter than the data, blue: darker."],
  estimate: ["Estimate <i>x̂</i><sub>0</sub>", "What the network expects at the end."],
  difference: ["Difference from A", "A line from each of 600 particles of A to the same one here (dot)."],
  "difference-origin": ["Way back to the data", "A line from each of 600 data points to where its particle is (dot)."],
};

class Column {
  constructor(template, index, run, { first, ranges, onJump, onSelect }) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.style.setProperty("--column", COLUMN_COLORS[index]);
    this.run = run;
    this.index = index;
    this.ranges = ranges;
    this.isImage = run.kind === "image";
    const surface = (name) => new Surface(this.find(`[data-panel="${name}"] canvas`));
    this.surfaces = { x: surface("x"), x0: surface("x0"), third: surface("third") };
    this.panels = this.isImage ? new RunImages(this.surfaces, run, first, ranges) : new RunPoints(this.surfaces, run, first);
    this.panels.color = COLUMN_COLORS[index];
    this.strip = new FilmStrip(new Surface(this.find(".strip canvas")), run, this.panels, onJump);
    if (this.isImage) this.listen(onSelect);
    this.write();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  part(name) {
    return this.find(`[data-part="${name}"]`);
  }

  listen(onSelect) {
    for (const surface of Object.values(this.surfaces)) {
      surface.canvas.style.cursor = "pointer";
      surface.canvas.onclick = (event) => {
        const sample = this.panels.sampleAt(surface, event.offsetX, event.offsetY);
        if (sample >= 0) onSelect(sample);
      };
    }
  }

  write() {
    const { run, isImage } = this;
    this.find('[data-panel="third"]').hidden = !isImage;
    write(this.part("letter"), LETTERS[this.index]);
    write(this.part("name"), run.name);
    this.part("name").title = run.name;
    this.part("note").hidden = !run.note;
    write(this.part("note"), run.note);
    write(this.part("x-caption"), isImage ? "Clipped to [−1, 1]; click one to follow it." : POINTS_CAPTION);
    const path = `Mean straightness ${run.straightness.toFixed(2)} (1: a line), turning ${run.turning.toFixed(1)} rad.`;
    this.path = run.ended ? path : "";
    this.select(0);
  }

  /** Shows another meaning in the panel that has several. */
  show(meaning) {
    this.panels.show(meaning);
    const shown = this.isImage ? this.imageMeaning(meaning) : this.pointMeaning(meaning);
    const [title, caption] = MEANINGS[shown];
    const panel = this.isImage ? "third" : "x0";
    this.part(`${panel}-title`).innerHTML = title;
    write(this.part(`${panel}-caption`), caption);
    const range = shown === "velocity" ? this.ranges.velocity : this.ranges.difference;
    write(this.part("low"), `−${range}`);
    write(this.part("high"), `+${range}`);
  }

  imageMeaning(meaning) {
    return this.index === 0 && meaning !== "origin" ? "velocity" : meaning;
  }

  pointMeaning(meaning) {
    if (meaning === "origin") return "difference-origin";
    return meaning === "difference" && this.index > 0 ? "difference" : "estimate";
  }

  select(sample) {
    this.panels.sample = sample;
    if (this.isImage) this.panels.select(sample);
    const what = this.isImage ? `Sample ${sample + 1}, x_s above x̂0; click to jump. ` : "Click to jump. ";
    write(this.part("strip-caption"), `${what}${this.path}`);
  }

  /** Fits everything to its size and theme. */
  relayout(theme, ratio) {
    for (const surface of [...Object.values(this.surfaces), this.strip.surface]) surface.fit(ratio);
    this.panels.setTheme(theme);
    this.strip.prepare(theme);
    const ramp = divergingTable(theme.dark).map((color) => css(color));
    this.find(".ramp").style.background = `linear-gradient(to right, ${ramp})`;
  }

  draw(s) {
    const { run } = this;
    const moment = momentOf(run, s);
    this.panels.draw(moment, s);
    this.strip.draw(s);
    const steps = run.ended ? `step ${moment.k}` : `step ${moment.k} of ${run.native.length - 1} so far`;
    write(this.part("cost"), `${steps} · ${run.nfe[moment.k]} NFE · ${run.ms[moment.k].toFixed(0)} ms`);
    if (this.drawn === moment.k) return;
    this.drawn = moment.k;
    for (const { canvas } of Object.values(this.surfaces)) canvas.dataset.k = moment.k;
  }
}

const POINTS_CAPTION =
  "x₁ across, x₂ up. Arrows: velocity −dx/ds; tails: the last 3 steps; grey: density of the target.";

/** @returns {number} the round half-range that holds 98 % of the ends' differences from the first run's, in all runs. */
function differenceRange(runs) {
  const end = (run) => between(run.arrays.x, { k: run.native.length - 1, fraction: 0 });
  const size = runs[0].arrays.x.values.length / runs[0].native.length;
  const first = end(runs[0]);
  const sizes = runs.slice(1).flatMap((run) => {
    const own = end(run);
    return Array.from({ length: size }, (_, i) => Math.abs(own(i) - first(i)));
  });
  if (!sizes.length) return 0.5;
  const reached = sizes.sort((a, b) => a - b)[Math.floor(DIFFERENCE_SHARE * (sizes.length - 1))];
  return DIFFERENCE_RANGES.find((range) => range >= reached) ?? DIFFERENCE_RANGES.at(-1);
}
