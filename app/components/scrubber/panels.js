// The four panels: clean, noised, denoised, residual; for images and for points in the plane.

/** Images of one size as tiles on one bitmap, near-square unless told otherwise, with transparent gaps between them. */
class Mosaic {
  constructor(count, height, width, columns = Math.ceil(Math.sqrt(count))) {
    this.columns = columns;
    this.rows = Math.ceil(count / this.columns);
    this.gap = Math.max(1, Math.round(width / 28));
    this.tileHeight = height;
    this.tileWidth = width;
    const across = this.columns * (width + this.gap) - this.gap;
    const down = this.rows * (height + this.gap) - this.gap;
    this.canvas = newCanvas(across, down);
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(across, down);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /** Fills every tile; `colorAt(tile, p)` is the packed colour of its pixel p, counted along rows. */
  paint(count, colorAt) {
    const stride = this.canvas.width;
    for (let tile = 0; tile < count; tile++) {
      const top = Math.floor(tile / this.columns) * (this.tileHeight + this.gap);
      const left = (tile % this.columns) * (this.tileWidth + this.gap);
      let p = 0;
      for (let y = 0; y < this.tileHeight; y++) {
        const start = (top + y) * stride + left;
        for (let x = 0; x < this.tileWidth; x++) this.pixels[start + x] = colorAt(tile, p++);
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** Fills the tiles with packed colours, one tile's after the other's: fast, for pictures that follow one another. */
  fill(colors) {
    for (let at = 0, row = 0; at < colors.length; at += this.tileWidth, row++) {
      const tile = Math.floor(row / this.tileHeight);
      const top = Math.floor(tile / this.columns) * (this.tileHeight + this.gap) + (row % this.tileHeight);
      const left = (tile % this.columns) * (this.tileWidth + this.gap);
      this.pixels.set(colors.subarray(at, at + this.tileWidth), top * this.canvas.width + left);
    }
    this.context.putImageData(this.image, 0, 0);
  }
}

/** Draws images; each canvas is repainted from the sweep's arrays. */
class ImagePanels {
  /** @param {Record<string, Surface>} surfaces - those of clean, noised, denoised, beside and residual there are. */
  constructor(surfaces, sweep) {
    this.surfaces = surfaces;
    this.clean = sweep.arrays.clean.values;
    this.noise = sweep.arrays.noise;
    [, this.height, this.width, this.channels] = sweep.arrays.clean.shape;
    this.residualRange = sweep.residual_range;
    this.mosaics = new Map();
  }

  setTheme(theme) {
    this.residualColors = Uint32Array.from(divergingTable(theme.dark), ([r, g, b]) => packPixel(r, g, b));
  }

  draw(moment) {
    const mosaic = this.mosaicFor(moment.inputs.length);
    const painters = {
      clean: this.cleanPainter(moment),
      noised: this.noisedPainter(moment),
      denoised: this.denoisedPainter(moment),
      residual: this.residualPainter(moment),
    };
    if (moment.beside) painters.beside = this.besidePainter(moment);
    for (const [name, surface] of Object.entries(this.surfaces)) {
      if (!(name in painters)) continue;
      mosaic.paint(moment.inputs.length, painters[name]);
      this.drawCrisp(surface, mosaic.canvas);
    }
  }

  mosaicFor(count) {
    if (!this.mosaics.has(count)) this.mosaics.set(count, new Mosaic(count, this.height, this.width));
    return this.mosaics.get(count);
  }

  cleanPainter({ inputs }) {
    const byteAt = (at) => this.clean[at];
    return (tile, p) => this.color(byteAt, this.at(inputs[tile], p));
  }

  noisedPainter({ inputs, alpha, sigma }) {
    const spread = Math.hypot(alpha, sigma);
    const signal = alpha / spread;
    const noise = (127.5 * this.noise.scale * sigma) / spread;
    const byteAt = (at) =>
      clamp(Math.round(127.5 + signal * (this.clean[at] - 127.5) + noise * this.noise.values[at]), 0, 255);
    return (tile, p) => this.color(byteAt, this.at(inputs[tile], p));
  }

  denoisedPainter({ x0Hat }) {
    const byteAt = (at) => x0Hat.values[at];
    return (tile, p) => this.color(byteAt, this.at(tile, p));
  }

  besidePainter({ inputs, beside }) {
    const byteAt = (at) => beside.values[at];
    return (tile, p) => this.color(byteAt, this.at(inputs[tile], p));
  }

  /** The residual of a colour image is the mean over its channels. */
  residualPainter({ inputs, x0Hat }) {
    const gain = 1 / this.channels / this.residualRange;
    return (tile, p) => {
      const denoised = this.at(tile, p);
      const clean = this.at(inputs[tile], p);
      let sum = 0;
      for (let c = 0; c < this.channels; c++) sum += x0Hat.values[denoised + c] - this.clean[clean + c];
      return this.residualColors[clamp(Math.round(127.5 + sum * gain), 0, 255)];
    };
  }

  /** @returns {number} where pixel `p` of an image starts in an array of images. */
  at(image, p) {
    return (image * this.height * this.width + p) * this.channels;
  }

  color(byteAt, at) {
    const red = byteAt(at);
    return this.channels === 1 ? packPixel(red, red, red) : packPixel(red, byteAt(at + 1), byteAt(at + 2));
  }

  /**
   * Draws the bitmap as large as fits. Enlarging by a whole factor first keeps the edges of the pixels sharp, and the
   * small reduction after it keeps all pixels equally wide.
   */
  drawCrisp(surface, bitmap) {
    const { context } = surface;
    const scale = Math.min(surface.width / bitmap.width, surface.height / bitmap.height);
    const width = Math.round(bitmap.width * scale);
    const height = Math.round(bitmap.height * scale);
    const factor = Math.ceil(scale * surface.ratio);
    const source = enlarge(bitmap, factor);
    const left = Math.round((surface.width - width) / 2);
    const top = Math.round((surface.height - height) / 2);
    surface.clear();
    context.imageSmoothingEnabled = true;
    // To less than half only what has not been enlarged is reduced; the best way costs a multiple of the others.
    context.imageSmoothingQuality = factor > 1 ? "low" : "high";
    context.drawImage(source, left, top, width, height);
  }
}

/** @returns {HTMLCanvasElement} the bitmap repeated `factor` times along both axes, in a canvas that is reused. */
function enlarge(bitmap, factor) {
  if (factor <= 1) return bitmap;
  const width = bitmap.width * factor;
  const height = bitmap.height * factor;
  const canvas = (enlarge.canvas ??= newCanvas(width, height));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  return canvas;
}

/** Draws points in the plane on equal axes that are the same in every panel. */
class PointPanels {
  /** @param {Record<string, Surface>} surfaces - those of clean, noised, denoised, beside and residual there are. */
  constructor(surfaces, sweep) {
    this.surfaces = surfaces;
    this.clean = sweep.arrays.clean;
    this.noise = sweep.arrays.noise;
    this.extent = sweep.extent;
  }

  setTheme(theme) {
    this.theme = theme;
  }

  draw(moment) {
    const tintOf = (lam) => (lam === null ? this.theme.muted : parameterColor(lam));
    const tint = tintOf(moment.lam);
    const cleanAt = (n, axis) => this.clean.values[2 * moment.inputs[n] + axis] * this.clean.scale;
    const noiseAt = (n, axis) => this.noise.values[2 * moment.inputs[n] + axis] * this.noise.scale;
    const denoisedAt = (n, axis) => moment.x0Hat.values[2 * n + axis] * moment.x0Hat.scale;
    const spread = Math.hypot(moment.alpha, moment.sigma);
    const noisedAt = (n, axis) => (moment.alpha * cleanAt(n, axis) + moment.sigma * noiseAt(n, axis)) / spread;
    const count = moment.inputs.length;
    const besideAt = (n, axis) => moment.beside.values[2 * moment.inputs[n] + axis] * moment.beside.scale;
    const painters = {
      clean: (surface) => this.scatter(surface, count, cleanAt, this.theme.text),
      noised: (surface) => this.scatter(surface, count, noisedAt, this.theme.faint),
      denoised: (surface) => this.scatter(surface, count, denoisedAt, tint),
      residual: (surface) => this.segments(surface, count, cleanAt, denoisedAt, tint),
    };
    if (moment.beside) painters.beside = (surface) => this.scatter(surface, count, besideAt, tintOf(moment.besideLam));
    for (const [name, surface] of Object.entries(this.surfaces)) painters[name]?.(surface);
  }

  scatter(surface, count, pointAt, color) {
    const axes = this.frame(surface);
    const { context } = surface;
    const size = count > 1500 ? 2 : 3;
    context.fillStyle = color;
    for (let n = 0; n < count; n++) {
      context.fillRect(axes.px(pointAt(n, 0)) - size / 2, axes.py(pointAt(n, 1)) - size / 2, size, size);
    }
  }

  /** Draws one line from each clean point to its x̂0, with a dot where it ends. */
  segments(surface, count, fromAt, toAt, color) {
    const axes = this.frame(surface);
    const { context } = surface;
    context.strokeStyle = this.theme.faint;
    context.lineWidth = 1;
    context.beginPath();
    for (let n = 0; n < count; n++) {
      context.moveTo(axes.px(fromAt(n, 0)), axes.py(fromAt(n, 1)));
      context.lineTo(axes.px(toAt(n, 0)), axes.py(toAt(n, 1)));
    }
    context.stroke();
    context.fillStyle = color;
    for (let n = 0; n < count; n++) context.fillRect(axes.px(toAt(n, 0)) - 1, axes.py(toAt(n, 1)) - 1, 2, 2);
  }

  /** Clears a panel and draws its zero lines and the numbers at its ends. */
  frame(surface) {
    const { context, width, height } = surface;
    const reach = [-this.extent, this.extent];
    const axes = new Axes(surface, { x: reach, y: reach, margin: { left: 0, right: 0, top: 0, bottom: 0 } });
    surface.clear();
    context.strokeStyle = this.theme.grid;
    context.lineWidth = 1;
    strokeLine(context, Math.round(axes.px(0)) + 0.5, 0, Math.round(axes.px(0)) + 0.5, height);
    strokeLine(context, 0, Math.round(axes.py(0)) + 0.5, width, Math.round(axes.py(0)) + 0.5);
    this.frameLabels(surface);
    return axes;
  }

  frameLabels({ context, width, height }) {
    const size = String(this.extent);
    context.font = `11px ${this.theme.font}`;
    context.fillStyle = this.theme.muted;
    context.textBaseline = "bottom";
    context.textAlign = "left";
    context.fillText(`\u2212${size}`, 4, height / 2 - 2);
    context.textAlign = "right";
    context.fillText(size, width - 4, height / 2 - 2);
    context.textAlign = "left";
    context.fillText(`\u2212${size}`, width / 2 + 4, height - 3);
    context.textBaseline = "top";
    context.fillText(size, width / 2 + 4, 4);
  }
}
