// Outline, strips over s and the selected layer under one cursor.

const DETAIL_WIDTH = 280;

export default function mountView(component) {
  return mount(Layers, component);
}

class Layers extends View {
  constructor(root) {
    super(root.querySelector(".layers"));
    this.slider = this.find("input[type=range]");
    this.hovered = null;
    this.table = new LayerTable(this.element, {
      onPick: (node, s) => this.pick(node, s),
      onToggle: (node) => this.toggle(node),
      onHover: (node, s) => this.hover(node, s),
      onLeave: () => this.hover(null, null),
      onKey: (event) => this.onKey(event),
    });
    this.detail = new LayerDetail(this.part("detail"));
    this.samples = new Samples(this.find(".samples"), (sample) => this.choose({ sample }));
    this.bindControls();
  }

  bindControls() {
    this.slider.oninput = () => this.moveCursor(Number(this.slider.value) / Number(this.slider.max));
    this.slider.onchange = () => this.commit();
    this.find("select").onchange = (event) => this.choose({ statistic: event.target.value });
    for (const button of this.element.querySelectorAll("[data-order]")) {
      button.onclick = () => this.choose({ order: button.dataset.order });
    }
    for (const button of this.element.querySelectorAll("[data-activations]")) {
      button.onclick = () => this.choose({ shown: button.dataset.activations });
    }
    this.bindButtons({
      fold: () => this.foldAll(),
      png: () => this.savePixels(),
      svg: () => this.saveVectors(),
      csv: () => this.saveTable(),
      "detail-png": () => this.saveDetail("png"),
      "detail-svg": () => this.saveDetail("svg"),
      "detail-csv": () => this.saveDetailTable(),
    });
  }

  // From Python

  /** Takes what Streamlit hands over; the choices in it count only with a new revision. */
  update({ data, setStateValue }) {
    this.setStateValue = setStateValue;
    this.data = data;
    if (data.revision !== this.revision) {
      this.revision = data.revision;
      this.state = { ...data.start };
      this.sent = JSON.stringify(this.state);
      this.blob = null;
    }
    this.takeTheme();
    this.receive();
  }

  /** The table and the layer, once their bytes have arrived. */
  receive() {
    const blob = getBlob(this.data.table);
    if (blob && blob !== this.blob) this.takeTable(blob);
    const detail = this.data.detail && getBlob(this.data.detail);
    if (detail && detail !== this.detail.blob) this.detail.setDetail(detail);
    this.element.classList.toggle("waiting", !this.blob);
    this.relayout();
  }

  takeTable(blob) {
    this.blob = blob;
    this.outline = new Outline(blob.names, blob.stages);
    this.statistics = new Map(
      blob.statistics.map((header) => [header.key, new Statistic(header, blob.arrays[`statistics/${header.key}`].values)]),
    );
    const options = blob.statistics.map(({ key, label }) => new Option(label, key));
    this.find("select").replaceChildren(...options);
    this.samples.setTable(blob);
    this.outline.reveal(this.layer);
    this.isFresh = true;
    this.arrange();
  }

  get layer() {
    return Math.max(0, this.blob.names.indexOf(this.state.layer));
  }

  get statistic() {
    return this.statistics.get(this.state.statistic) ?? this.statistics.values().next().value;
  }

  // What the hand does

  /** Rows in the order asked for. */
  arrange() {
    this.table.setRows(this.state.order === "value" ? this.ranked() : this.outline.rows());
    if (!this.rowAt(this.active)) this.active = this.blob.names[this.layer];
  }

  /** @returns {object[]} the layers, largest first, by their full names. */
  ranked() {
    const { names } = this.blob;
    const ranks = names.map((_, layer) => this.statistic.rank(layer));
    const order = names.map((_, layer) => layer).sort((a, b) => ranks[b] - ranks[a] || a - b);
    return order.map((layer) => ({ path: names[layer], label: names[layer], level: 0, layer, layers: [layer] }));
  }

  rowAt(path) {
    return this.table.rows.find((node) => node.path === path);
  }

  /** Takes choices over and tells Python. */
  choose(changes) {
    Object.assign(this.state, changes);
    this.arrange();
    this.isFresh = true;
    this.relayout();
    this.commit();
  }

  /** A click on a row chooses its layer, one on its strip moves the cursor too. */
  pick(node, s) {
    this.hovered = null;
    this.activate(node);
    if (s !== null) this.state.s = roundS(s);
    else if (node.layer === null) return this.toggle(node);
    this.drawSoon();
    this.commit();
  }

  activate(node) {
    this.active = node.path;
    if (node.layer !== null) this.state.layer = this.blob.names[node.layer];
  }

  toggle(node) {
    this.outline.toggle(node);
    this.arrange();
    this.relayout();
  }

  foldAll() {
    this.outline.foldAll(this.outline.folded.size === 0);
    this.arrange();
    this.relayout();
  }

  /** The pointer takes the cursor along over the strips; it goes back when the pointer leaves without a click. */
  hover(node, s) {
    this.hovered = node && { node, s: roundS(s) };
    this.drawSoon();
  }

  moveCursor(s) {
    this.state.s = roundS(s);
    this.drawSoon();
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { rows } = this.table;
    const at = rows.findIndex((node) => node.path === this.active);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -rows.length, End: rows.length };
    const node = rows[at];
    if (event.key in steps) {
      const next = clamp(at + steps[event.key], 0, rows.length - 1);
      this.activate(rows[next]);
      this.table.show(next);
    } else if (node?.layer === null && ["ArrowLeft", "ArrowRight", "Enter"].includes(event.key)) {
      const isFolded = this.outline.folded.has(node.path);
      if (event.key === "Enter" || isFolded === (event.key === "ArrowRight")) this.toggle(node);
    } else return;
    event.preventDefault();
    this.drawSoon();
    this.commitAfterRest();
  }

  toPython() {
    return this.state;
  }

  // Drawing

  /** Fits everything to its size and theme and draws at once, so that no cleared canvas is ever seen. */
  relayout(ratio = globalThis.devicePixelRatio) {
    if (!this.blob) return;
    this.table.fit(ratio);
    if (this.isFresh) this.scrollToStart();
    this.isFresh = false;
    this.detail.setTheme(this.theme);
    this.table.drawAxis({ statistic: this.statistic, theme: this.theme });
    if (this.detail.blob) this.detail.fit(ratio);
    this.writeChoices();
    this.draw();
  }

  /** By depth the selected layer is in sight, by value the first one. */
  scrollToStart() {
    if (this.state.order === "value") this.table.scroller.scrollTop = 0;
    else this.table.show(this.table.rows.findIndex((node) => node.path === this.active));
  }

  draw() {
    cancelAnimationFrame(this.request);
    this.request = 0;
    const s = this.hovered?.s ?? this.state.s;
    const { folded } = this.outline;
    const { sizes } = this.blob;
    this.table.draw({
      statistic: this.statistic,
      theme: this.theme,
      s,
      active: this.active,
      folded,
      sizes,
      largest: this.largest(),
    });
    this.drawDetail(s);
    this.writeReadout(s);
    this.slider.value = Math.round(s * Number(this.slider.max));
    this.slider.style.setProperty("--filled", `${100 * s}%`);
    this.slider.setAttribute("aria-valuetext", `t ${s.toFixed(2)}`);
    this.element.dataset.s = s;
  }

  /** @returns {number} parameters of the largest row that has a bar. */
  largest() {
    const { sizes } = this.blob;
    const { folded } = this.outline;
    const closed = this.table.rows.filter((node) => node.layer !== null || folded.has(node.path));
    return Math.max(1, ...closed.map((node) => node.layers.reduce((sum, layer) => sum + sizes[layer], 0)));
  }

  drawDetail(s) {
    const { blob } = this.detail;
    const name = this.blob.names[this.layer];
    const isCurrent = blob?.layer === name && blob.sample === this.state.sample;
    this.part("detail").classList.toggle("stale", !isCurrent);
    this.part("detail").dataset.layer = isCurrent ? name : "";
    write(this.part("layer-name"), `${name} (${this.blob.kinds[this.layer]})`);
    write(this.part("pending"), isCurrent ? blob.about : this.data.pending || "Fetching this layer …");
    if (!isCurrent) return;
    this.detail.draw(s, this.state.shown === "change");
    write(this.part("weights-caption"), blob.weight_caption);
  }

  writeReadout(s) {
    const { statistic } = this;
    const node = this.hovered?.node ?? this.rowAt(this.active);
    if (!node) return;
    const i = statistic.nearestLevel(s);
    const where = statistic.levels > 1 ? ` at t ${statistic.s[i].toFixed(2)}` : "";
    const what = node.layer === null ? `${node.path.replace("/", "")}, mean of ${node.layers.length} layers` : node.path;
    const text = `t ${s.toFixed(2)}  ·  ${what}  ·  ${statistic.label}${where}: ${statistic.format(statistic.at(node.layers, i))}`;
    write(this.part("readout"), text);
  }

  writeChoices() {
    this.find("select").value = this.statistic.key;
    write(this.part("statistic-caption"), this.statistic.caption);
    for (const button of this.element.querySelectorAll("[data-order]")) {
      button.setAttribute("aria-pressed", button.dataset.order === this.state.order);
    }
    const canChange = !this.find('[data-activations="change"]').disabled;
    for (const button of this.element.querySelectorAll("[data-activations]")) {
      const isShown = button.dataset.activations === (canChange ? this.state.shown : "value");
      button.setAttribute("aria-pressed", isShown);
    }
    const fold = this.find('[data-action="fold"]');
    fold.disabled = this.state.order === "value";
    write(fold, this.outline.folded.size ? "Unfold" : "Fold");
    this.samples.choose(this.state.sample);
  }

  // Saving

  fileName(what) {
    return `${this.blob.title}-${what}`;
  }

  /** @returns {object} what both pictures of the table are painted from. */
  exported() {
    const { rows } = this.table;
    const title = `${this.blob.title}: ${this.statistic.label}`;
    return { rows, statistic: this.statistic, theme: this.theme, title, caption: this.statistic.caption, ...tableSize(rows) };
  }

  savePixels() {
    const picture = this.exported();
    const canvas = newCanvas(picture.width * EXPORT.scale, picture.height * EXPORT.scale);
    const context = canvas.getContext("2d");
    context.scale(EXPORT.scale, EXPORT.scale);
    paintTable(context, picture);
    canvas.toBlob((blob) => download(blob, `${this.fileName(`layers-${this.statistic.key}`)}.png`));
  }

  saveVectors() {
    const picture = this.exported();
    const context = new SvgContext(picture.width, picture.height);
    paintTable(context, picture);
    download(context.toBlob(), `${this.fileName(`layers-${this.statistic.key}`)}.svg`);
  }

  saveTable() {
    const { names, stages, kinds, sizes } = this.blob;
    const statistics = [...this.statistics.values()];
    const rows = [["layer", "stage", "kind", "parameters", "statistic", "unit", "s", "value"]];
    for (const { key, unit, s, levels, values } of statistics) {
      names.forEach((name, layer) => {
        s.forEach((at, i) => {
          const value = values[layer * levels + i];
          const about = [name, stages[layer], kinds[layer], sizes[layer], key, unit];
          rows.push([...about, levels > 1 ? at : "", value]);
        });
      });
    }
    downloadCsv(rows, `${this.fileName("layers")}.csv`);
  }

  saveDetail(format) {
    if (!this.detail.blob) return;
    const cells = (selector) =>
      [...this.element.querySelectorAll(selector)]
        .filter((figure) => !figure.hidden)
        .map((figure) => figureCell(figure, DETAIL_WIDTH));
    const activations = cells('[data-figure="activations"]').map((cell) => ({
      ...cell,
      title: this.part("activation-title").textContent,
      caption: this.part("activation-caption").textContent,
      width: 3 * DETAIL_WIDTH,
      height: 3 * cell.height,
    }));
    const rows = [cells("[data-weights]"), activations].filter((row) => row.length);
    const heading = `${this.blob.title}: ${this.part("layer-name").textContent}`;
    this.savePicture(heading, rows, this.fileName(this.state.layer), format);
  }

  saveDetailTable() {
    if (!this.detail.blob) return;
    downloadCsv(this.detail.asRows(this.state.s, this.state.shown === "change"), `${this.fileName(this.state.layer)}.csv`);
  }
}

/** The cursor counts in hundredths, as the slider does. */
function roundS(s) {
  return Math.round(s * 100) / 100;
}
