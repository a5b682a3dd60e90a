// Where a run stands at an s, and what lies between two of its states.

const LETTERS = ["A", "B", "C", "D"];
const COLUMN_COLORS = [THIS_CURVE, ...OTHER_CURVES];
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

/** @returns {(i: number) => number} entry i of a run's states at a moment, by a straight line between two of them. */
function between({ values, scale, zero, shape }, { k, fraction }) {
  const size = values.length / shape[0];
  const from = k * size;
  const to = Math.min(k + 1, shape[0] - 1) * size;
  return (i) => ((1 - fraction) * values[from + i] + fraction * values[to + i]) * scale + zero;
}

/** @returns {Float32Array} all of a run's state at a moment, as `between`; of an array without states at null. */
function stateAt({ values, scale, zero, shape }, moment) {
  const { k, fraction } = moment ?? { k: 0, fraction: 0 };
  const count = moment ? shape[0] : 1;
  const size = values.length / count;
  const state = new Float32Array(size);
  const add = (from, weight) => {
    for (let i = 0; i < size; i++) state[i] += weight * (values[from + i] * scale + zero);
  };
  add(k * size, 1 - fraction);
  if (fraction) add(Math.min(k + 1, count - 1) * size, fraction);
  return state;
}

/** @returns the entry at `index` of an array whose first axis are its entries, without a copy. */
function entry({ values, shape, scale, zero }, index) {
  const size = values.length / shape[0];
  return { values: values.subarray(index * size, (index + 1) * size), scale, zero };
}
