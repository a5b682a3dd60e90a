// The panels of a run of images: mosaics of x_s and x̂0, and a third picture of velocities or differences.

/** Images change when a step is done: between states there is nothing to show. */
class RunImages {
  /**
   * @param {Record<string, Surface>} surfaces
   * @param {object} run
   * @param {object} first - the run that differences are taken from.
   * @param {{velocity: number, difference: number}} ranges - what full colour stands for.
   */
  constructor(surfaces, run, first, ranges) {
    this.surfaces = surfaces;
    this.run = run;
    this.first = first;
    this.x = run.arrays.x;
    this.x0 = run.arrays.x0_hat;
    this.ranges = ranges;
    this.third = "velocity";
    this.sample = 0;
    [, this.count, this.height, this.width, this.channels] = this.x.shape;
    this.size = this.height * this.width * this.channels;
    this.mosaic = new Mosaic(this.count, this.height, this.width);
    this.drawn = null;
  }

  setTheme(theme) {
    this.theme = theme;
    this.colors = Uint32Array.from(divergingTable(theme.dark), ([r, g, b]) => packPixel(r, g, b));
    this.drawn = null;
  }

  draw({ k }) {
    if (k === this.drawn) return;
    this.drawn = k;
    this.paint("x", (tile, p) => this.pixel(this.x, k, tile, p));
    this.paint("x0", (tile, p) => this.pixel(this.x0, k, tile, p));
    this.paint("third", this.thirdPainter(k));
  }

  /** Chooses the third picture: "velocity", or the difference in "x", in "x0", or of x̂0 from the data, "origin". */
  show(third) {
    this.third = third;
    this.drawn = null;
  }

  /** Marks another sample. */
  select(sample) {
    this.sample = sample;
    this.drawn = null;
  }

  paint(name, colorAt) {
    this.mosaic.paint(this.count, colorAt);
    const surface = this.surfaces[name];
    ImagePanels.prototype.drawCrisp.call(this, surface, this.mosaic.canvas);
    const { left, top, width, height } = this.tile(surface, this.sample);
    surface.context.strokeStyle = this.theme.primary;
    surface.context.lineWidth = 2;
    surface.context.strokeRect(left, top, width, height);
  }

  /** @returns where one sample is drawn, in CSS pixels. */
  tile(surface, sample) {
    const { canvas, columns, gap, tileWidth, tileHeight } = this.mosaic;
    const scale = Math.min(surface.width / canvas.width, surface.height / canvas.height);
    return {
      left: (surface.width - canvas.width * scale) / 2 + (sample % columns) * (tileWidth + gap) * scale,
      top: (surface.height - canvas.height * scale) / 2 + Math.floor(sample / columns) * (tileHeight + gap) * scale,
      width: tileWidth * scale,
      height: tileHeight * scale,
    };
  }

  /** @returns {number} the sample drawn at a point of a panel, or −1. */
  sampleAt(surface, x, y) {
    return [...Array(this.count).keys()].findIndex((sample) => {
      const { left, top, width, height } = this.tile(surface, sample);
      return x >= left && x <= left + width && y >= top && y <= top + height;
    });
  }

  /** The picture of one pixel of an array of states, clipped to [-1, 1]. */
  pixel({ values, scale, zero }, k, tile, p) {
    const at = (k * this.count + tile) * this.size + p * this.channels;
    const byte = (i) => clamp(Math.round(127.5 * (values[i] * scale + zero + 1)), 0, 255);
    const red = byte(at);
    return this.channels === 1 ? packPixel(red, red, red) : packPixel(red, byte(at + 1), byte(at + 2));
  }

  thirdPainter(k) {
    if (this.third === "velocity" || (this.third !== "origin" && this.run === this.first)) return this.velocityPainter(k);
    if (this.third === "origin") return this.differencePainter(this.x0, k, this.originOf());
    const moment = momentOf(this.first, this.run.arrays.s.values[k]);
    const name = this.third === "x" ? "x" : "x0_hat";
    return this.differencePainter(this.run.arrays[name], k, between(this.first.arrays[name], moment));
  }

  /** Change over step, from one state to the next; at the last state there is none. */
  velocityPainter(k) {
    const levels = this.run.arrays.s.values;
    if (k === levels.length - 1) return () => this.colors[127];
    const gain = 1 / (levels[k] - levels[k + 1]) / this.ranges.velocity;
    return this.painter(between(this.x, { k: k + 1, fraction: 0 }), between(this.x, { k, fraction: 0 }), gain);
  }

  originOf() {
    const { values, scale, zero } = this.run.arrays.origin;
    return (i) => values[i] * scale + zero;
  }

  differencePainter(array, k, from) {
    return this.painter(between(array, { k, fraction: 0 }), from, 1 / this.ranges.difference);
  }

  /** Paints differences, the mean over the channels, with full colour where they times `gain` reach 1. */
  painter(of, from, gain) {
    const strength = (127.5 * gain) / this.channels;
    return (tile, p) => {
      const at = tile * this.size + p * this.channels;
      let sum = 0;
      for (let c = 0; c < this.channels; c++) sum += of(at + c) - from(at + c);
      return this.colors[clamp(Math.round(127.5 + sum * strength), 0, 255)];
    };
  }

  /** @returns {HTMLCanvasElement} one sample's x_s over its x̂0, for the film strip. */
  keyFrame(k) {
    const canvas = newCanvas(this.width, 2 * this.height);
    const image = canvas.getContext("2d").createImageData(this.width, 2 * this.height);
    const pixels = new Uint32Array(image.data.buffer);
    const area = this.width * this.height;
    for (let p = 0; p < area; p++) {
      pixels[p] = this.pixel(this.x, k, this.sample, p);
      pixels[area + p] = this.pixel(this.x0, k, this.sample, p);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
}
