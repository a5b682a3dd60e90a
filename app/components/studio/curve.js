// Curves λ(s) on the landscape's noise levels, and what they cost: arithmetic without a canvas.

/** Half the width in s of what a drag takes along, at one standard deviation. */
const DRAG_WIDTH = 0.07;

/** @returns {Float32Array} the numbers of an array in their own unit. */
function inUnit({ values, scale, zero }) {
  return scale === 1 && zero === 0 ? values : Float32Array.from(values, (raw) => raw * scale + zero);
}

/** The landscape: quality in dB over (λ, s), read along λ by a cubic through its rows. */
class Landscape {
  /** @param {object} blob - what `pack_landscape` packed. */
  constructor({ arrays, judged, measure, groups, title, gain_caption }) {
    const values = Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, inUnit(array)]));
    Object.assign(this, { ...values, judged, groups, title, gainCaption: gain_caption });
    const { length } = this.s;
    this.learned = groups.map((_, g) => values.curves.subarray(g * length, (g + 1) * length));
    this.judgedIndices = judged.flatMap((isJudged, i) => (isJudged ? [i] : []));
    if (!this.isShared) return;
    this.base = this.lookUp(this.learned[0]);
    this.bootstrap = new Bootstrap(this, measure);
  }

  /** Whether one λ moves all parameters, so that any curve can be looked up. */
  get isShared() {
    return this.groups.length === 1;
  }

  /** @returns {{j: number, weights: number[]}[]} how to read a curve: at each level the row below λ, and the cubic's weights. */
  readings(curve) {
    const last = this.lam.length - 2;
    return Array.from(curve, (lam) => {
      const above = this.lam.findIndex((row) => row > lam);
      const j = clamp(above < 0 ? last : above - 1, 0, last);
      const width = this.lam[j + 1] - this.lam[j];
      const t = (lam - this.lam[j]) / width;
      const [rise, fall] = [t * (1 - t) ** 2 * width, -(t ** 2) * (1 - t) * width];
      return { j, weights: [(1 + 2 * t) * (1 - t) ** 2, rise, t ** 2 * (3 - 2 * t), fall] };
    });
  }

  /** @returns {number} a plane (λ × s, from `offset`) read at level `i`. */
  readAt(plane, offset, i, { j, weights }) {
    const at = (row) => plane[offset + row * this.s.length + i];
    const [start, rise, end, fall] = weights;
    return start * at(j) + rise * this.slope(at, j) + end * at(j + 1) + fall * this.slope(at, j + 1);
  }

  /** The difference quotient between the neighbours of a row; one-sided at the ends. */
  slope(at, j) {
    const [low, high] = [Math.max(0, j - 1), Math.min(this.lam.length - 1, j + 1)];
    return (at(high) - at(low)) / (this.lam[high] - this.lam[low]);
  }

  /** @returns {number[]} the quality of a curve at each noise level, in dB. */
  lookUp(curve) {
    return this.readings(curve).map((reading, i) => this.readAt(this.quality, 0, i, reading));
  }

  /** @returns {number[]} dB gained over the learned curve at each noise level; negative is lost. */
  gain(curve) {
    return this.lookUp(curve).map((quality, i) => quality - this.base[i]);
  }

  /** @returns {number[]} mean, low and high end of the gain over the judged noise levels. */
  total(curve) {
    const gain = this.gain(curve);
    const mean = this.judgedIndices.reduce((sum, i) => sum + gain[i], 0) / this.judgedIndices.length;
    return [mean, ...this.bootstrap.interval(curve)];
  }
}

/** The 95 % interval of a curve's gain, over parts of the samples drawn with replacement. */
class Bootstrap {
  static DRAWS = 500;
  static TAIL = 0.025;

  constructor(landscape, measure) {
    this.landscape = landscape;
    // A measure says what is averaged over samples, and how many dB the average is.
    this.toMean = measure === "mse" ? (db) => 10 ** (-db / 10) : (db) => db;
    this.toDb = measure === "mse" ? (mean) => -10 * Math.log10(mean) : (mean) => mean;
    this.count = landscape.parts.length / landscape.quality.length;
    this.weights = drawWeights(Bootstrap.DRAWS, this.count);
    this.base = this.qualities(landscape.learned[0]);
  }

  /** @returns {Float64Array} the mean quality over the judged levels, for each draw of parts. */
  qualities(curve) {
    const { landscape, count } = this;
    const { judgedIndices, parts, quality } = landscape;
    const readings = landscape.readings(curve);
    const found = new Float64Array(Bootstrap.DRAWS);
    const column = new Float64Array(count);
    for (const i of judgedIndices) {
      for (let b = 0; b < count; b++) {
        column[b] = this.toMean(landscape.readAt(parts, b * quality.length, i, readings[i]));
      }
      for (let draw = 0; draw < Bootstrap.DRAWS; draw++) {
        let mean = 0;
        for (let b = 0; b < count; b++) mean += this.weights[draw * count + b] * column[b];
        found[draw] += this.toDb(mean) / judgedIndices.length;
      }
    }
    return found;
  }

  interval(curve) {
    const gains = this.qualities(curve)
      .map((quality, draw) => quality - this.base[draw])
      .sort();
    const last = Bootstrap.DRAWS - 1;
    return [gains[Math.round(Bootstrap.TAIL * last)], gains[Math.round((1 - Bootstrap.TAIL) * last)]];
  }
}

/** @returns {Float32Array} draws × count shares that sum to 1 in each draw; the same ones every time. */
function drawWeights(draws, count) {
  const weights = new Float32Array(draws * count);
  let state = 1;
  for (let k = 0; k < weights.length; k++) {
    // Park and Miller's generator.
    state = (state * 48271) % 2147483647;
    const part = Math.floor((state / 2147483647) * count);
    weights[Math.floor(k / count) * count + part] += 1 / count;
  }
  return weights;
}

/** @returns {number[]} the curve pulled to `lam` at knot `k`; its neighbours come along. */
function pulled(curve, s, k, lam) {
  const move = lam - curve[k];
  return curve.map((value, i) => clamp(value + move * Math.exp(-0.5 * ((s[i] - s[k]) / DRAG_WIDTH) ** 2), 0, 1));
}

/** @returns {number[]} dλ/ds at each knot. */
function slopesOf(curve, s) {
  return Array.from(curve, (_, i) => {
    const [low, high] = [Math.max(0, i - 1), Math.min(s.length - 1, i + 1)];
    return (curve[high] - curve[low]) / (s[high] - s[low]);
  });
}

/** The named curves; constant and step take their place from the cursor. */
function presetCurve(name, { s, learned, valley, at }) {
  const k = nearestIndex(s, at);
  const curves = {
    learned: () => [...learned],
    linear: () => [...s],
    constant: () => Array.from(s, () => learned[k]),
    step: () => Array.from(s, (value) => (value < s[k] ? 0 : 1)),
    valley: () => Array.from(valley, (value, i) => (Number.isNaN(value) ? learned[i] : value)),
  };
  return curves[name]();
}
