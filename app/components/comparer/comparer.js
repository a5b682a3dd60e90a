// The view: one t for all rows.

export default function mountView(component) {
  return mount(Comparer, component);
}

class Comparer extends FrameView {
  constructor(root) {
    super(root.querySelector(".comparer"));
    this.template = root.querySelector(".row-template");
    this.s = 0;
    this.levels = [];
    this.rows = [];
    this.held = new Map();
    this.bindControls({ png: () => this.saveRows("png"), svg: () => this.saveRows("svg") });
  }

  // From Python

  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    const isStart = !this.data;
    this.data = data;
    if (isStart) {
      this.s = data.start;
      this.sent = JSON.stringify(this.toPython());
    }
    this.takeTheme();
    this.receive();
  }

  /** Keeps the frames as they arrive, one blob for each row, and shows them when all are there. */
  receive() {
    const hashes = this.data.rows.map((row) => row.sweep);
    this.held = new Map(hashes.map((hash) => [hash, this.held.get(hash) ?? getBlob(hash)]));
    const asked = JSON.stringify(this.data.rows);
    if ([...this.held.values()].every(Boolean) && asked !== this.taken) {
      this.taken = asked;
      this.takeRows(hashes.map((hash) => this.held.get(hash)));
    }
    this.relayout();
  }

  takeRows(sweeps) {
    const { rows, shown } = this.data;
    const [first] = sweeps;
    this.player.stop();
    this.levels = first.arrays.s.values;
    this.native = first.native;
    this.slider.max = this.last;
    // One scale for all rows: colours and distances compare.
    const range = Math.max(...sweeps.map((sweep) => sweep.residual_range ?? 0));
    this.rows = [
      new ComparerRow(this.template, first, null, shown),
      ...sweeps.map((sweep, i) => new ComparerRow(this.template, sweep, rows[i], shown)),
    ];
    for (const { panels } of this.rows) Object.assign(panels, { residualRange: range, extent: first.extent });
    this.find(".rows").replaceChildren(...this.rows.map((row) => row.element));
    this.element.classList.remove("waiting");
    for (const kind of ["image", "points"]) this.element.classList.toggle(kind, first.kind === kind);
    this.enableControls(true);
    this.writeCaptions(first.kind === "image", range);
  }

  writeCaptions(isImage, range) {
    write(this.part("low"), `−${range}`);
    write(this.part("high"), `+${range}`);
    const residual = isImage
      ? "Red: too bright, blue: too dark, on one scale for all rows."
      : "Residual: a line from each clean point to its estimate; x₁ across, x₂ up, the same axes everywhere.";
    write(this.part("note"), `Every row has the same inputs under the same noise; the noised ones are shown ÷ √(α²+σ²). ${residual}`);
  }

  // Moving

  moveToFrame(k) {
    this.s = this.levels[k];
    this.drawSoon();
  }

  toPython() {
    return { s: clamp(this.s, 0, 1) };
  }

  // Drawing

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.rows.length) return;
    const ramp = divergingTable(this.theme.dark).map((color) => css(color));
    this.find(".ramp").style.background = `linear-gradient(to right, ${ramp})`;
    for (const row of this.rows) row.relayout(this.theme, ratio);
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.request);
    this.request = 0;
    const k = this.frame;
    for (const row of this.rows) row.draw(this.s);
    this.slider.value = k;
    this.slider.style.setProperty("--filled", `${(100 * k) / this.slider.max}%`);
    const text = `s ${this.levels[k].toFixed(2)}  ·  ${this.native[k]}`;
    this.slider.setAttribute("aria-valuetext", text);
    write(this.part("readout"), text);
    this.element.dataset.k = k;
  }

  // Saving

  saveRows(format) {
    const width = this.element.classList.contains("image") ? 2 * EXPORT.panel : EXPORT.panel;
    const cells = this.rows.map(({ element }, i) =>
      [...element.querySelectorAll("figure")].map((figure) => {
        const name = i ? `${this.data.rows[i - 1].name}: ` : "";
        return { ...figureCell(figure, width), title: name + plainText(figure.querySelector(".title")) };
      }),
    );
    const s = this.levels[this.frame].toFixed(2);
    this.savePicture(`${this.data.title}  ·  s ${s}`, cells, `compare-s${s}`, format);
  }
}
