// The panels of one run: images as mosaics, points as particles with tails over the vector field and the target's density.

const LETTERS = ["A", "B", "C", "D"];
const COLUMN_COLORS = [THIS_CURVE, ...OTHER_CURVES];
const TAIL_STEPS = 3;
const TAILS = 300;
const EPSILON = 1e-6;

/** @returns {{k: number, fraction: number}} the last state reached at `s`, and how far the way to the next one is gone. */
function momentOf(run, s) {
  const levels = run.arrays.s.values;
  let k = 0;
  while (k < levels.length - 1 && levels[k + 1] >= s - EPSILON) k++;
  const next = levels[Math.min(k + 1, levels.length - 1)];
  const fraction = k + 1 < levels.length ? clamp((levels[k] - s) / (levels[k] - next), 0, 1) : 0;
  return { k, fraction: fraction < EPSILON ? 0 : fraction };
}

/** Images change when a step is done: between states there is nothing to show. */
class RunImages {
  /** @param {number} velocityRange - what full colour stands for. */
  constructor(surfaces, run, velocityRange) {
    this.surfaces = surfaces;
    this.run = run;
    this.x = run.arrays.x;
    this.x0 = run.arrays.x0_hat;
    [, this.count, this.height, this.width, this.channels] = this.x.shape;
    this.size = this.height * this.width * this.channels;
    this.velocityRange = velocityRange;
    this.mosaic = new Mosaic(this.count, this.height, this.width);
    this.drawn = null;
  }

  setTheme(theme) {
    this.colors = Uint32Array.from(divergingTable(theme.dark), ([r, g, b]) => packPixel(r, g, b));
    this.drawn = null;
  }

  draw({ k }) {
    if (k === this.drawn) return;
    this.drawn = k;
    this.paint("x", (tile, p) => this.pixel(this.x, k, tile, p));
    this.paint("x0", (tile, p) => this.pixel(this.x0, k, tile, p));
    this.paint("velocity", this.velocityPainter(k));
  }

  paint(name, colorAt) {
    this.mosaic.paint(this.count, colorAt);
    ImagePanels.prototype.drawCrisp.call(this, this.surfaces[name], this.mosaic.canvas);
  }

  /** The picture of one pixel of an array of states, clipped to [-1, 1]. */
  pixel({ values, scale, zero }, k, tile, p) {
    const at = (k * this.count + tile) * this.size + p * this.channels;
    const byte = (i) => clamp(Math.round(127.5 * (values[i] * scale + zero + 1)), 0, 255);
    const red = byte(at);
    return this.channels === 1 ? packPixel(red, red, red) : packPixel(red, byte(at + 1), byte(at + 2));
  }

  /** Change over step, from one state to the next; at the last state there is none. */
  velocityPainter(k) {
    const last = this.run.native.length - 1;
    const { values, scale } = this.x;
    const levels = this.run.arrays.s.values;
    const gain = (127.5 * scale) / (levels[k] - levels[k + 1]) / this.velocityRange / this.channels;
    const stride = this.count * this.size;
    return (tile, p) => {
      const at = (k * this.count + tile) * this.size + p * this.channels;
      let sum = 0;
      if (k < last) for (let c = 0; c < this.channels; c++) sum += values[at + stride + c] - values[at + c];
      return this.colors[k < last ? clamp(Math.round(127.5 + sum * gain), 0, 255) : 127];
    };
  }

  /** @returns {HTMLCanvasElement} one sample's x_s over its x̂0, for the film strip. */
  keyFrame(k, sample = 0) {
    const canvas = newCanvas(this.width, 2 * this.height);
    const image = canvas.getContext("2d").createImageData(this.width, 2 * this.height);
    const pixels = new Uint32Array(image.data.buffer);
    const area = this.width * this.height;
    for (let p = 0; p < area; p++) {
      pixels[p] = this.pixel(this.x, k, sample, p);
      pixels[area + p] = this.pixel(this.x0, k, sample, p);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
}

/** Particles move on straight lines between the states of their run. */
class RunPoints extends PointPanels {
  constructor(surfaces, run) {
    super({}, { arrays: {}, extent: run.extent });
    this.surfaces = surfaces;
    this.run = run;
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

  draw({ k, fraction }) {
    const { x, x0_hat: x0, lam } = this.run.arrays;
    const tint = lam ? parameterColor(lam.values[k]) : this.theme.primary;
    const shown = `${k} ${this.field}`;
    if (shown !== this.shown) {
      this.shown = shown;
      this.paintBackground(k, tint);
      // The network is asked at the states only, so its estimate stands still between them.
      this.frame(this.surfaces.x0);
      this.drawParticles(this.surfaces.x0, this.axes, x0, k, 0, tint);
    }
    this.surfaces.x.drawLayer();
    this.drawTails(this.surfaces.x.context, this.axes, k, fraction, tint);
    this.drawParticles(this.surfaces.x, this.axes, x, k, fraction, tint);
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
      const { values, scale } = slice(array, k, 1);
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
    const { values, scale } = slice(this.run.arrays.x, k, 1);
    const { lam } = this.run.arrays;
    context.fillStyle = lam ? parameterColor(lam.values[k]) : this.theme.primary;
    const zoom = (scale * size) / (2 * this.extent);
    for (let i = 0; i < values.length; i += 2) {
      context.fillRect(size / 2 + zoom * values[i] - 0.5, size / 2 - zoom * values[i + 1] - 0.5, 1, 1);
    }
    return canvas;
  }
}

/** @returns the entry at `index` of an array whose first axes are flattened, without a copy. */
function slice({ values, shape, scale, zero }, index, leading) {
  const size = shape.slice(leading).reduce((product, length) => product * length, 1);
  return { values: values.subarray(index * size, (index + 1) * size), scale, zero };
}

/** One run on the page: heading, panels, film strip. */
class Column {
  constructor(template, index, run, { velocityRange, onJump }) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.style.setProperty("--column", COLUMN_COLORS[index]);
    this.run = run;
    const isImage = run.kind === "image";
    this.find('[data-panel="velocity"]').hidden = !isImage;
    const surface = (name) => new Surface(this.find(`[data-panel="${name}"] canvas`));
    this.surfaces = { x: surface("x"), x0: surface("x0"), velocity: surface("velocity") };
    this.panels = isImage ? new RunImages(this.surfaces, run, velocityRange) : new RunPoints(this.surfaces, run);
    this.strip = new FilmStrip(new Surface(this.find(".strip canvas")), run, this.panels, onJump);
    this.write(index, isImage, velocityRange);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  part(name) {
    return this.find(`[data-part="${name}"]`);
  }

  write(index, isImage, velocityRange) {
    const { run } = this;
    write(this.part("letter"), LETTERS[index]);
    write(this.part("name"), run.name);
    this.part("name").title = run.name;
    this.part("note").hidden = !run.note;
    write(this.part("note"), run.note);
    write(this.part("x-caption"), isImage ? "Shown clipped to [−1, 1]." : "x₁ across, x₂ up. Arrows: velocity −dx/ds; tails: the last 3 steps; grey: density of the target.");
    write(this.part("x0-caption"), "What the network expects at the end.");
    const path = `Mean straightness ${run.straightness.toFixed(2)} (1: a line), turning ${run.turning.toFixed(1)} rad.`;
    write(this.part("strip-caption"), `${isImage ? "First sample, x_s above x̂0; click to jump. " : "Click to jump. "}${path}`);
    write(this.part("low"), `−${velocityRange}`);
    write(this.part("high"), `+${velocityRange}`);
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
    const moment = momentOf(this.run, s);
    this.panels.draw(moment);
    this.strip.draw(s);
    write(this.part("cost"), `step ${moment.k} · ${this.run.nfe[moment.k]} NFE · ${this.run.ms[moment.k].toFixed(0)} ms`);
    for (const { canvas } of Object.values(this.surfaces)) canvas.dataset.k = moment.k;
  }
}
