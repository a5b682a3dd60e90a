// One row: the inputs, clean and noised; or one model, x̂0 and residual.

const INPUTS = { left: ["clean", "Clean x0"], right: ["noised", "Noised x_s"] };
const ANSWERS = { left: ["denoised", "Denoised x̂0"], right: ["residual", "Residual x̂0 − x0"] };

/** Images side by side in one strip. */
class StripImages extends ImagePanels {
  mosaicFor(count) {
    if (!this.mosaics.has(count)) this.mosaics.set(count, new Mosaic(count, this.height, this.width, count));
    return this.mosaics.get(count);
  }

  /** @returns {number} width over height of the strip. */
  aspect(count) {
    const { canvas } = this.mosaicFor(count);
    return canvas.width / canvas.height;
  }
}

class ComparerRow {
  /**
   * @param {HTMLTemplateElement} template
   * @param {object} sweep - the decoded frames.
   * @param {{name: string, color: string, values: string[]} | null} model - null for the row of the inputs.
   * @param {number} shown - how many inputs, the first ones.
   */
  constructor(template, sweep, model, shown) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.sweep = sweep;
    this.model = model;
    this.inputs = [...Array(Math.min(shown, sweep.arrays.clean.shape[0])).keys()];
    const panels = model ? ANSWERS : INPUTS;
    this.surfaces = {};
    for (const [side, [name, title]] of Object.entries(panels)) {
      const canvas = this.element.querySelector(`[data-panel="${side}"] canvas`);
      canvas.setAttribute("aria-label", model ? `${title}, ${model.name}` : title);
      write(this.part(side), title);
      this.surfaces[name] = new Surface(canvas);
    }
    const isImage = sweep.kind === "image";
    this.panels = new (isImage ? StripImages : PointPanels)(this.surfaces, sweep);
    this.element.style.setProperty("--aspect", isImage ? this.panels.aspect(this.inputs.length) : 1);
    if (model) this.element.style.setProperty("--row", model.color);
    write(this.part("name"), model ? model.name : "Inputs");
  }

  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  relayout(theme, ratio) {
    for (const surface of Object.values(this.surfaces)) surface.fit(ratio);
    this.panels.setTheme(theme);
  }

  draw(s) {
    const moment = { ...sweepMoment(this.sweep, s), inputs: this.inputs };
    this.panels.draw(moment);
    for (const { canvas } of Object.values(this.surfaces)) canvas.dataset.k = moment.k;
    write(this.part("value"), this.model ? this.answer(moment) : `α ${moment.alpha.toFixed(2)}, σ ${formatSigma(moment.sigma)}`);
  }

  answer({ k, lam }) {
    const value = this.model.values[k];
    return lam === null ? value : `${value}\nλ ${lam.toFixed(2)}`;
  }
}
