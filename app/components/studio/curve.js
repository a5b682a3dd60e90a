// Curves λ(s) on the landscape's noise levels, and what they cost: arithmetic without a canvas.

/** Half the width in s of what a drag takes along, at one standard deviation. */
const DRAG_WIDTH = 0.07;

/** The landscape: quality in dB over (λ, s), and a cubic along λ through its rows. */
class Landscape {
  /** @param {{s: number[], lam: number[], quality: number[][], learned: number[], best: number[], judged: boolean[]}} data */
  constructor({ s, lam, quality, learned, best, judged }) {
    Object.assign(this, { s, lam, quality, learned, best, judged });
    this.slopes = lam.map((_, j) => s.map((_, i) => this.slope(j, i)));
    this.base = this.lookUp(learned);
  }

  /** The difference quotient between the neighbours of a row; one-sided at the ends. */
  slope(j, i) {
    const low = Math.max(0, j - 1);
    const high = Math.min(this.lam.length - 1, j + 1);
    return (this.quality[high][i] - this.quality[low][i]) / (this.lam[high] - this.lam[low]);
  }

  /** @returns {number[]} the quality of a curve at each noise level, in dB. */
  lookUp(curve) {
    return curve.map((lam, i) => this.qualityAt(i, lam));
  }

  qualityAt(i, lam) {
    const last = this.lam.length - 2;
    const above = this.lam.findIndex((row) => row > lam);
    const j = clamp(above < 0 ? last : above - 1, 0, last);
    const width = this.lam[j + 1] - this.lam[j];
    const t = (lam - this.lam[j]) / width;
    const [start, end] = [this.quality[j][i], this.quality[j + 1][i]];
    const [rise, fall] = [width * this.slopes[j][i], width * this.slopes[j + 1][i]];
    return (
      (1 + 2 * t) * (1 - t) ** 2 * start +
      t * (1 - t) ** 2 * rise +
      t ** 2 * (3 - 2 * t) * end -
      t ** 2 * (1 - t) * fall
    );
  }

  /** @returns {number[]} dB gained over the learned curve at each noise level; negative is lost. */
  gain(curve) {
    return this.lookUp(curve).map((quality, i) => quality - this.base[i]);
  }

  /** @returns {number} the mean of values over the judged noise levels. */
  mean(values) {
    const judged = values.filter((_, i) => this.judged[i]);
    return judged.reduce((sum, value) => sum + value, 0) / judged.length;
  }
}

/** @returns {number[]} the curve pulled to `lam` at knot `k`; its neighbours come along. */
function pulled(curve, s, k, lam) {
  const move = lam - curve[k];
  return curve.map((value, i) => clamp(value + move * Math.exp(-0.5 * ((s[i] - s[k]) / DRAG_WIDTH) ** 2), 0, 1));
}

/** @returns {number[]} dλ/ds at each knot. */
function slopesOf(curve, s) {
  return curve.map((_, i) => {
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
    constant: () => s.map(() => learned[k]),
    step: () => s.map((value) => (value < s[k] ? 0 : 1)),
    valley: () => valley.map((value, i) => value ?? learned[i]),
  };
  return curves[name]();
}
