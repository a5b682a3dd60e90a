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
    this.paint("x", this.pictures(this.x, k * this.count, this.count));
    this.paint("x0", this.pictures(this.x0, k * this.count, this.count));
    this.paint("third", this.thirdPictures(k));
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

  paint(name, colors) {
    this.mosaic.fill(colors);
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

  /** @returns {Uint32Array} the packed colours of `count` images of an array of states, clipped to [-1, 1]. */
  pictures(array, first, count) {
    const { values } = array;
    const bytes = (array.bytes ??= byteTable(array));
    const { channels } = this;
    const colors = new Uint32Array((count * this.size) / channels);
    const last = channels - 1;
    for (let p = 0, at = first * this.size; p < colors.length; p++, at += channels) {
      colors[p] = packPixel(bytes[values[at]], bytes[values[at + (last >> 1)]], bytes[values[at + last]]);
    }
    return colors;
  }

  thirdPictures(k) {
    if (this.third === "velocity" || (this.third !== "origin" && this.run === this.first)) return this.velocities(k);
    const state = { k, fraction: 0 };
    const gain = 1 / this.ranges.difference;
    if (this.third === "origin") return this.differences(stateAt(this.x0, state), stateAt(this.run.arrays.origin, null), gain);
    const name = this.third === "x" ? "x" : "x0_hat";
    const there = stateAt(this.first.arrays[name], momentOf(this.first, this.run.arrays.s.values[k]));
    return this.differences(stateAt(this.run.arrays[name], state), there, gain);
  }

  /** Change over step, from one state to the next; at the last state there is none. */
  velocities(k) {
    const levels = this.run.arrays.s.values;
    const here = stateAt(this.x, { k, fraction: 0 });
    if (k === levels.length - 1) return this.differences(here, here, 0);
    const gain = 1 / (levels[k] - levels[k + 1]) / this.ranges.velocity;
    return this.differences(stateAt(this.x, { k: k + 1, fraction: 0 }), here, gain);
  }

  /** @returns {Uint32Array} colours of differences, the mean over the channels; full where they times `gain` reach 1. */
  differences(of, from, gain) {
    const { channels, colors: table } = this;
    const strength = (127.5 * gain) / channels;
    const colors = new Uint32Array(of.length / channels);
    for (let p = 0, at = 0; p < colors.length; p++) {
      let sum = 0;
      for (let c = 0; c < channels; c++, at++) sum += of[at] - from[at];
      colors[p] = table[clamp(Math.round(127.5 + sum * strength), 0, 255)];
    }
    return colors;
  }

  /** @returns {HTMLCanvasElement} one sample's x_s over its x̂0, for the film strip. */
  keyFrame(k) {
    const canvas = newCanvas(this.width, 2 * this.height);
    const image = canvas.getContext("2d").createImageData(this.width, 2 * this.height);
    const pixels = new Uint32Array(image.data.buffer);
    const own = k * this.count + this.sample;
    pixels.set(this.pictures(this.x, own, 1));
    pixels.set(this.pictures(this.x0, own, 1), this.width * this.height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }
}

/** @returns {Uint8Array} what each byte of an array of states is shown as, from black at −1 to white at 1. */
function byteTable({ scale, zero }) {
  return Uint8Array.from({ length: 256 }, (_, byte) => clamp(Math.round(127.5 * (byte * scale + zero + 1)), 0, 255));
}
