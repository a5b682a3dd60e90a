// The selected layer: its weights at θ0, s and θ1, and what it puts out, blended and chosen in the browser.

const WEIGHTS = ["theta0", "blend", "theta1"];

/** Weights this many times as wide as high stand below each other. */
const WIDE = 4;

class LayerDetail {
  /** @param {HTMLElement} element - the place of everything about one layer. */
  constructor(element) {
    this.element = element;
    const picture = (selector) => new TilePicture(new Surface(element.querySelector(`${selector} canvas`)));
    this.weights = Object.fromEntries(WEIGHTS.map((name) => [name, picture(`[data-weights="${name}"]`)]));
    this.activations = picture('[data-figure="activations"]');
    this.pictures = [...Object.values(this.weights), this.activations];
  }

  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  /** @param {object} blob - what `pack` made of a LayerDetail. */
  setDetail(blob) {
    const { arrays } = blob;
    this.blob = blob;
    this.s = arrays.s.values;
    this.theta0 = arrays.theta0.values;
    this.theta1 = arrays.theta1?.values ?? null;
    for (const picture of Object.values(this.weights)) picture.setTiles(blob.weight_tiles);
    if (arrays.activations) this.activations.setTiles(blob.activation_tiles);
    for (const name of ["theta0", "theta1"]) this.element.querySelector(`[data-weights="${name}"]`).hidden = !this.theta1;
    const { rows, columns, height, width } = blob.weight_tiles;
    const weights = this.element.querySelector(".weights");
    weights.classList.toggle("wide", columns * width > WIDE * rows * height);
    weights.style.setProperty("--aspect", (columns * width) / (rows * height));
    this.element.querySelector('[data-figure="activations"]').hidden = !arrays.activations;
    this.element.querySelector('[data-activations="change"]').disabled = !arrays.activations0;
  }

  setTheme(theme) {
    for (const picture of this.pictures) picture.setTheme(theme);
  }

  fit(ratio) {
    for (const picture of this.pictures) picture.surface.fit(ratio);
  }

  /** The pictures at s. @param {boolean} isChange - against θ0 at the same noised input, instead of the output itself. */
  draw(s, isChange) {
    const k = nearestIndex(this.s, s);
    this.drawWeights(s, this.lamAt(s));
    if (this.blob.arrays.activations) this.drawActivations(k, isChange && Boolean(this.blob.arrays.activations0));
    else write(this.part("activation-title"), "No activations");
    write(this.part("activation-caption"), this.activationCaption(k, isChange));
    this.element.dataset.k = k;
  }

  /** @returns {number | null} λ(s) of this layer; null for a network with one parameter set. */
  lamAt(s) {
    const { lam, lam_s: grid } = this.blob.arrays;
    return this.theta1 && lam ? valueAt(grid.values, lam.values, s) : null;
  }

  drawWeights(s, lam) {
    const { weight_reach: reach } = this.blob;
    this.weights.blend.draw(blend(this.theta0, this.theta1, lam ?? 0), reach);
    this.element.querySelector('[data-weights="blend"]').dataset.lam = lam === null ? "" : lam.toFixed(4);
    write(this.part("blend-title"), lam === null ? "Weight" : `θ at t ${s.toFixed(2)}: λ ${lam.toFixed(2)}`);
    this.part("blend-title").style.setProperty("--parameters", lam === null ? "" : parameterColor(lam));
    if (!this.theta1) return;
    this.weights.theta0.draw((i) => this.theta0[i], reach);
    this.weights.theta1.draw((i) => this.theta1[i], reach);
  }

  drawActivations(k, isChange) {
    this.activations.draw(this.activationsAt(k, isChange), isChange ? this.blob.change_reach : this.blob.activation_reach);
    const what = isChange ? "Change of the output from θ0" : "Output";
    write(this.part("activation-title"), `${what} at t ${this.s[k].toFixed(2)}`);
  }

  /** @returns {(i: number) => number} the output number by number, or how far it is from that of θ0. */
  activationsAt(k, isChange) {
    const here = slice(this.blob.arrays.activations, k, 1);
    if (!isChange) return (i) => here.values[i] * here.scale;
    const start = slice(this.blob.arrays.activations0, k, 1);
    return (i) => here.values[i] * here.scale - start.values[i] * start.scale;
  }

  activationCaption(k, isChange) {
    const { arrays, activation_caption: caption, native } = this.blob;
    if (!arrays.activations) return caption;
    const reach = isChange && arrays.activations0 ? this.blob.change_reach : this.blob.activation_reach;
    return `${caption} Red above, blue below zero, full colour at ± ${formatValue(reach)}; ${native[k]}.`;
  }

  /** @returns {any[][]} the numbers shown, for a table. */
  asRows(s, isChange) {
    const rows = [["what", "index", "theta0", "theta_s", "theta1", "activation"]];
    const here = blend(this.theta0, this.theta1, this.lamAt(s) ?? 0);
    this.theta0.forEach((value, i) => rows.push(["weight", i, value, here(i), this.theta1?.[i] ?? "", ""]));
    const { activations } = this.blob.arrays;
    if (!activations) return rows;
    const k = nearestIndex(this.s, s);
    const output = this.activationsAt(k, isChange && Boolean(this.blob.arrays.activations0));
    const size = activations.values.length / this.s.length;
    for (let i = 0; i < size; i++) rows.push(["activation", i, "", "", "", output(i)]);
    return rows;
  }
}

/** A button for each sample, with its picture where there is one. */
class Samples {
  /** @param {HTMLElement} element. @param {(sample: number) => void} onChoose */
  constructor(element, onChoose) {
    this.element = element;
    this.onChoose = onChoose;
  }

  /** @param {object} table - the packed table. */
  setTable({ samples, arrays }) {
    this.element.replaceChildren(...Array.from({ length: samples }, (_, i) => this.button(i, arrays.samples)));
  }

  button(i, pictures) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Sample ${i + 1}`);
    button.append(pictures ? samplePicture(pictures, i) : String(i + 1));
    button.onclick = () => this.onChoose(i);
    return button;
  }

  choose(sample) {
    [...this.element.children].forEach((button, i) => button.setAttribute("aria-pressed", i === sample));
  }
}

/** @returns {HTMLCanvasElement} one of n images of bytes, (n, height, width, channels). */
function samplePicture({ values, shape: [, height, width, channels] }, index) {
  const canvas = newCanvas(width, height);
  const image = new ImageData(width, height);
  const start = index * height * width * channels;
  for (let p = 0; p < height * width; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = values[start + p * channels + Math.min(c, channels - 1)];
    image.data[4 * p + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
