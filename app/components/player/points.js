// The panels of a run of points: particles with tails over the vector field and the target's density.

const TAIL_STEPS = 3;
const TAILS = 300;
const LINES = 600;

/** Particles move on straight lines between the states of their run. */
class RunPoints extends PointPanels {
  /** @param {object} first - the run that differences are taken from. */
  constructor(surfaces, run, first) {
    super({}, { arrays: {}, extent: run.extent });
    this.surfaces = surfaces;
    this.run = run;
    this.first = first;
    this.second = "x0";
    this.count = run.arrays.x.shape[1];
    this.field = "learned";
    this.bitmaps = new Map();
    this.colors = new Map();
  }

  setTheme(theme) {
    super.setTheme(theme);
    this.shown = null;
    this.density = this.paintDensity();
  }

  /** Chooses the second picture: the estimate "x0", the "difference" from the first run, or from the data, "origin". */
  show(second) {
    this.second = second === "x0" || second === "origin" || this.run !== this.first ? second : "x0";
    this.shown = null;
  }

  draw({ k, fraction }, s) {
    const { x, x0_hat: x0, lam } = this.run.arrays;
    const tint = lam ? parameterColor(lam.values[k]) : this.theme.primary;
    const shown = `${k} ${this.field}`;
    if (shown !== this.shown) {
      this.shown = shown;
      this.paintBackground(k, tint);
      // The network is asked at the states only, so its estimate stands still between them.
      if (this.second === "x0") this.drawEstimate(x0, k, tint);
    }
    if (this.second !== "x0") this.drawDifference({ k, fraction }, s);
    this.surfaces.x.drawLayer();
    this.drawTails(this.surfaces.x.context, this.axes, k, fraction, tint);
    this.drawParticles(this.surfaces.x, this.axes, x, k, fraction, tint);
  }

  drawEstimate(x0, k, tint) {
    this.frame(this.surfaces.x0);
    this.drawParticles(this.surfaces.x0, this.axes, x0, k, 0, tint);
  }

  /** A line from where a particle of the first run, or of the data, is to where the same one is here. */
  drawDifference(moment, s) {
    const { context } = this.surfaces.x0;
    const axes = this.frame(this.surfaces.x0);
    const here = between(this.run.arrays.x, moment);
    const there = this.second === "origin" ? this.originOf() : between(this.first.arrays.x, momentOf(this.first, s));
    const shown = Math.min(LINES, this.count);
    context.strokeStyle = this.theme.muted;
    context.lineWidth = 1;
    context.beginPath();
    for (let i = 0; i < 2 * shown; i += 2) {
      context.moveTo(axes.px(there(i)), axes.py(there(i + 1)));
      context.lineTo(axes.px(here(i)), axes.py(here(i + 1)));
    }
    context.stroke();
    context.fillStyle = this.color;
    for (let i = 0; i < 2 * shown; i += 2) context.fillRect(axes.px(here(i)) - 1.5, axes.py(here(i + 1)) - 1.5, 3, 3);
  }

  originOf() {
    const { values, scale } = this.run.arrays.origin;
    return (i) => values[i] * scale;
  }

  /** Density and arrows, painted once for each state. */
  paintBackground(k, tint) {
    const { x } = this.surfaces;
    x.paintLayer((context) => {
      this.axes = this.frame({ context, width: x.width, height: x.height, clear: () => {} });
      if (this.density) context.drawImage(this.density, 0, 0, x.width, x.height);
      this.drawField(context, this.axes, k, tint);
    });
  }

  /** Writes the particles into a bitmap of the screen's pixels: one image to draw instead of thousands of squares. */
  drawParticles(surface, axes, { values, scale }, k, fraction, color) {
    const { canvas, ratio, context } = surface;
    const bitmap = this.bitmapFor(surface);
    const last = this.run.native.length - 1;
    const stride = 2 * this.count;
    const from = k * stride;
    const to = Math.min(k + 1, last) * stride;
    const zoom = (ratio * scale * (axes.right - axes.left)) / (2 * this.extent);
    const [here, there] = [(1 - fraction) * zoom, fraction * zoom];
    const size = Math.max(2, Math.round(2 * ratio));
    const [middleX, middleY] = [ratio * axes.px(0) - size / 2, ratio * axes.py(0) - size / 2];
    const { pixels } = bitmap;
    const packed = this.packed(color);
    pixels.fill(0);
    for (let i = 0; i < stride; i += 2) {
      const left = Math.round(middleX + here * values[from + i] + there * values[to + i]);
      const top = Math.round(middleY - here * values[from + i + 1] - there * values[to + i + 1]);
      if (left < 0 || top < 0 || left + size > canvas.width || top + size > canvas.height) continue;
      for (let y = top; y < top + size; y++) {
        for (let x = left; x < left + size; x++) pixels[y * canvas.width + x] = packed;
      }
    }
    bitmap.context.putImageData(bitmap.image, 0, 0);
    context.drawImage(bitmap.canvas, 0, 0, surface.width, surface.height);
  }

  /** @returns {number} a CSS colour as the bitmap keeps it. */
  packed(color) {
    if (!this.colors.has(color)) this.colors.set(color, packPixel(...parseColor(color)));
    return this.colors.get(color);
  }

  bitmapFor(surface) {
    const { width, height } = surface.canvas;
    const known = this.bitmaps.get(surface);
    if (known && known.canvas.width === width && known.canvas.height === height) return known;
    const canvas = newCanvas(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const bitmap = { canvas, context, image, pixels: new Uint32Array(image.data.buffer) };
    this.bitmaps.set(surface, bitmap);
    return bitmap;
  }

  /** The last three steps of some of the particles. */
  drawTails(context, axes, k, fraction, color) {
    const { values, scale } = this.run.arrays.x;
    const last = this.run.native.length - 1;
    const stride = 2 * this.count;
    const zoom = (scale * (axes.right - axes.left)) / (2 * this.extent);
    const [middleX, middleY] = [axes.px(0), axes.py(0)];
    const next = Math.min(k + 1, last) * stride;
    context.strokeStyle = color;
    context.globalAlpha = 0.35;
    context.lineWidth = 1;
    context.beginPath();
    for (let n = 0; n < Math.min(TAILS, this.count); n++) {
      for (let step = Math.max(0, k - TAIL_STEPS); step <= k; step++) {
        const at = step * stride + 2 * n;
        const method = step === Math.max(0, k - TAIL_STEPS) ? "moveTo" : "lineTo";
        context[method](middleX + zoom * values[at], middleY - zoom * values[at + 1]);
      }
      const [at, to] = [k * stride + 2 * n, next + 2 * n];
      const between = (axis) => (1 - fraction) * values[at + axis] + fraction * values[to + axis];
      context.lineTo(middleX + zoom * between(0), middleY - zoom * between(1));
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** Arrows point where a particle goes next: towards falling s. The longest of a frame spans one cell. */
  drawField(context, axes, k, tint) {
    const vectors = this.vectors(k);
    if (!vectors) return;
    const { values: points, shape } = this.run.arrays.lattice;
    let longest = 0;
    for (let i = 0; i < vectors.length; i += 2) longest = Math.max(longest, Math.hypot(vectors[i], vectors[i + 1]));
    if (!longest) return;
    const cell = (axes.right - axes.left) / Math.sqrt(shape[0]);
    const gain = (0.95 * cell) / longest;
    context.strokeStyle = this.field === "exact" ? this.theme.text : this.field === "difference" ? this.theme.primary : tint;
    context.globalAlpha = 0.6;
    context.lineWidth = 1;
    context.beginPath();
    for (let i = 0; i < vectors.length; i += 2) {
      this.arrow(context, axes.px(points[i]), axes.py(points[i + 1]), -gain * vectors[i], gain * vectors[i + 1]);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  arrow(context, x, y, dx, dy) {
    const size = Math.hypot(dx, dy);
    if (size < 1) return;
    const [endX, endY] = [x + dx, y + dy];
    const head = Math.min(4, size / 2) / size;
    context.moveTo(x, y);
    context.lineTo(endX, endY);
    context.moveTo(endX - head * (dx + dy / 2), endY - head * (dy - dx / 2));
    context.lineTo(endX, endY);
    context.lineTo(endX - head * (dx - dy / 2), endY - head * (dy + dx / 2));
  }

  /** @returns {Float32Array | null} dx/ds on the lattice: the network's, the closed form's, or their difference. */
  vectors(k) {
    const { learned, exact } = this.run.arrays;
    if (!learned || this.field === "off" || !this.run.defined[k]) return null;
    const part = (array) => {
      const { values, scale } = entry(array, k);
      return Float32Array.from(values, (value) => value * scale);
    };
    if (this.field === "learned" || !exact) return part(learned);
    const best = part(exact);
    return this.field === "exact" ? best : part(learned).map((value, i) => value - best[i]);
  }

  paintDensity() {
    const { density } = this.run.arrays;
    if (!density) return null;
    const [height, width] = density.shape;
    const canvas = newCanvas(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const [r, g, b] = parseColor(this.theme.text);
    density.values.forEach((value, i) => image.data.set([r, g, b, 0.5 * value], 4 * i));
    context.putImageData(image, 0, 0);
    return canvas;
  }

  /** @returns {HTMLCanvasElement} the particles as a small picture. */
  keyFrame(k) {
    const size = 64;
    const canvas = newCanvas(size, size);
    const context = canvas.getContext("2d");
    const { values, scale } = entry(this.run.arrays.x, k);
    const { lam } = this.run.arrays;
    context.fillStyle = lam ? parameterColor(lam.values[k]) : this.theme.primary;
    const zoom = (scale * size) / (2 * this.extent);
    for (let i = 0; i < values.length; i += 2) {
      context.fillRect(size / 2 + zoom * values[i] - 0.5, size / 2 - zoom * values[i + 1] - 0.5, 1, 1);
    }
    return canvas;
  }
}
