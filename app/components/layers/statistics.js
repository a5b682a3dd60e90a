// One statistic of the layers over s: values, colours, order.

const MISSING = "rgba(128, 128, 128, 0.35)";

class Statistic {
  /** @param {object} header of payload.py. @param {Float32Array} values (layers, levels), one row after the other. */
  constructor(header, values) {
    Object.assign(this, header);
    this.values = values;
    this.levels = header.s.length;
    this.edges = levelEdges(header.s);
  }

  /** @returns {number} of some layers at level `i`: the mean of what is finite. */
  at(layers, i) {
    let [sum, count] = [0, 0];
    for (const layer of layers) {
      const value = this.values[layer * this.levels + i];
      if (!Number.isFinite(value)) continue;
      sum += value;
      count += 1;
    }
    return count ? sum / count : NaN;
  }

  nearestLevel(s) {
    return nearestIndex(this.s, s);
  }

  /** @returns {number} what layers are ordered by: the mean over s; layers without a value come last. */
  rank(layer) {
    let [sum, count] = [0, 0];
    for (let i = 0; i < this.levels; i++) {
      const value = this.values[layer * this.levels + i];
      if (!Number.isFinite(value)) continue;
      sum += this.diverging ? Math.abs(value) : value;
      count += 1;
    }
    return count ? (this.largest_first ? sum : -sum) / count : -Infinity;
  }

  /** @returns {string} the value's colour. */
  color(value, table) {
    if (!Number.isFinite(value)) return MISSING;
    const [low, high] = this.range;
    return css(table[Math.round(clamp((value - low) / (high - low), 0, 1) * 255)]);
  }

  table(isDark) {
    return this.diverging ? divergingTable(isDark) : colorTable(VIRIDIS);
  }

  /** @returns {string} a value with its unit. */
  format(value) {
    if (!Number.isFinite(value)) return "no value";
    return `${formatValue(value)}${this.unit ? ` ${this.unit}` : ""}`;
  }
}

/** @returns {number[]} borders half-way between levels; the outer ones are as far from theirs, within [0, 1]. */
function levelEdges(s) {
  if (s.length === 1) return [0, 1];
  const middles = s.slice(1).map((value, i) => (value + s[i]) / 2);
  return [clamp(2 * s[0] - middles[0], 0, 1), ...middles, clamp(2 * s.at(-1) - middles.at(-1), 0, 1)];
}
