// A moment is all that the figures show at one position: a frame of the sweep, or a cell of the pad.

/**
 * @typedef {object} Moment
 * @property {number} k - the sweep's frame at this noise level.
 * @property {{i: number, j: number} | null} cell - the pad's column and row, or null on the learned curve.
 * @property {number} s - noise level.
 * @property {number | null} lam - position of the parameters; null for a network with one parameter set.
 * @property {number | null} learned - what λ(s) says.
 * @property {string} native - s in the process's own time.
 * @property {number} alpha - signal factor of the noised input.
 * @property {number} sigma - noise factor of the noised input.
 * @property {number[]} inputs - which of the sweep's inputs are shown.
 * @property {{values: ArrayLike<number>, scale: number, zero: number}} x0Hat - their x̂0, one after the other.
 * @property {{values: ArrayLike<number>, scale: number, zero: number} | null} beside - x̂0 of a second network at this
 *   noise level and its own λ, for all of the sweep's inputs.
 * @property {number | null} besideLam - where that network's parameters stand.
 * @property {number | null} score - the pad's score at this cell.
 */

/** @returns {Moment} the sweep's frame nearest to noise level `s`. */
function sweepMoment(sweep, s) {
  const { arrays } = sweep;
  const k = nearestIndex(arrays.s.values, s);
  const count = arrays.clean.shape[0];
  return {
    k,
    cell: null,
    s: arrays.s.values[k],
    lam: arrays.lam?.values[k] ?? null,
    learned: arrays.lam?.values[k] ?? null,
    native: sweep.native[k],
    alpha: arrays.alpha.values[k],
    sigma: arrays.sigma.values[k],
    inputs: (sweep.everyInput ??= [...Array(count).keys()]),
    x0Hat: slice(arrays.x0_hat, k, 1),
    ...besideAt(sweep, k),
    score: null,
  };
}

/** @returns {Moment} the pad's cell nearest to noise level `s` and parameter position `lam`. */
function padMoment(sweep, pad, [s, lam]) {
  const { arrays } = pad;
  const i = nearestIndex(arrays.s.values, s);
  const j = nearestIndex(arrays.lam.values, lam);
  const columns = arrays.s.values.length;
  const k = nearestIndex(sweep.arrays.s.values, arrays.s.values[i]);
  return {
    k,
    cell: { i, j },
    s: arrays.s.values[i],
    lam: arrays.lam.values[j],
    learned: arrays.learned.values[i],
    native: pad.native[i],
    alpha: arrays.alpha.values[i],
    sigma: arrays.sigma.values[i],
    inputs: pad.inputs,
    x0Hat: slice(arrays.x0_hat, j * columns + i, 2),
    ...besideAt(sweep, k),
    score: arrays.score.values[j * columns + i],
  };
}

/** @returns what a second network shows at frame `k`: it follows its own learned curve wherever the pad's ring is. */
function besideAt({ arrays }, k) {
  const x0Hat = arrays["beside/x0_hat"];
  return { beside: x0Hat ? slice(x0Hat, k, 1) : null, besideLam: arrays["beside/lam"]?.values[k] ?? null };
}

/** @returns the entry at `index` of an array whose first `leading` axes are flattened, without a copy. */
function slice({ values, shape, scale, zero }, index, leading) {
  const size = shape.slice(leading).reduce((product, length) => product * length, 1);
  return { values: values.subarray(index * size, (index + 1) * size), scale, zero };
}
