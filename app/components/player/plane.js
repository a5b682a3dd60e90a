// The paths of all samples in the plane in which the model's samples spread most; a click follows another sample.

const PLANE_MARGIN = { left: 40, right: 12, top: 24, bottom: 40 };
const HIT_DISTANCE = 24;

class PlaneChart {
  /** @param {{onSelect: (sample: number) => void}} handlers */
  constructor(surface, { onSelect }) {
    this.surface = surface;
    this.sample = 0;
    surface.canvas.onclick = (event) => {
      const sample = this.sampleAt(event.offsetX, event.offsetY);
      if (sample >= 0) onSelect(sample);
    };
  }

  /** @param {object} plane - decoded; its paths belong to the runs in their order. */
  setPlane(plane, runs) {
    this.plane = plane;
    this.runs = runs;
    this.paths = runs.map((_, i) => plane.arrays[`path${i}`]);
  }

  prepare(theme) {
    this.theme = theme;
    const { width, height } = this.surface;
    const [x, y] = this.ranges(width - PLANE_MARGIN.left - PLANE_MARGIN.right, height - PLANE_MARGIN.top - PLANE_MARGIN.bottom);
    this.axes = new Axes(this.surface, { x, y, margin: PLANE_MARGIN });
    const share = (i) => `${(100 * this.plane.shares[i]).toFixed(0)} % of the samples' variance`;
    this.surface.paintLayer((context) => {
      const ticks = { xTicks: niceTicks(...x), yTicks: niceTicks(...y) };
      const titles = { xTitle: `component 1: ${share(0)}`, yTitle: `component 2: ${share(1)}` };
      drawAxes(context, this.axes, theme, { ...titles, ...ticks });
      this.paintSamples(context);
      this.paintPaths(context);
    });
  }

  /** Both axes in one scale, all points inside. */
  ranges(width, height) {
    const all = [this.plane.arrays.samples, ...this.paths];
    const reach = [0, 1].map((axis) => {
      const values = all.flatMap(({ values, scale }) => Array.from(values.filter((_, i) => i % 2 === axis), (v) => v * scale));
      return finiteRange(values);
    });
    const unit = 1.08 * Math.max((reach[0][1] - reach[0][0]) / width, (reach[1][1] - reach[1][0]) / height);
    return [width, height].map((size, axis) => {
      const middle = (reach[axis][0] + reach[axis][1]) / 2;
      return [middle - (unit * size) / 2, middle + (unit * size) / 2];
    });
  }

  paintSamples(context) {
    const { values, scale } = this.plane.arrays.samples;
    context.fillStyle = this.theme.faint;
    for (let i = 0; i < values.length; i += 2) {
      context.fillRect(this.axes.px(values[i] * scale) - 1.5, this.axes.py(values[i + 1] * scale) - 1.5, 3, 3);
    }
  }

  paintPaths(context) {
    this.paths.forEach((path, i) => {
      for (let n = 0; n < path.shape[1]; n++) {
        context.globalAlpha = n === this.sample ? 1 : 0.3;
        context.lineWidth = n === this.sample ? 2.5 : 1;
        context.strokeStyle = COLUMN_COLORS[i];
        context.beginPath();
        for (let k = 0; k < path.shape[0]; k++) context.lineTo(...this.pixel(path, k, n));
        context.stroke();
      }
    });
    context.globalAlpha = 1;
  }

  /** @returns {number[]} where sample n of a run is drawn at its state k, or on the way to the next. */
  pixel(path, k, n, fraction = 0) {
    const at = between(path, { k, fraction });
    return [this.axes.px(at(2 * n)), this.axes.py(at(2 * n + 1))];
  }

  draw({ s }) {
    const { context } = this.surface;
    this.surface.drawLayer();
    this.paths.forEach((path, i) => {
      const { k, fraction } = momentOf(this.runs[i], s);
      for (let n = 0; n < path.shape[1]; n++) {
        const isSelected = n === this.sample;
        const [x, y] = this.pixel(path, k, n, fraction);
        fillDot(context, x, y, isSelected ? 5 : 2.5, COLUMN_COLORS[i], isSelected ? this.theme.text : null);
      }
    });
  }

  /** @returns {number} the sample whose path passes nearest to a point, or −1 if none is near. */
  sampleAt(x, y) {
    let [best, nearest] = [-1, HIT_DISTANCE];
    for (const path of this.paths) {
      for (let k = 0; k < path.shape[0]; k++) {
        for (let n = 0; n < path.shape[1]; n++) {
          const [px, py] = this.pixel(path, k, n);
          const distance = Math.hypot(px - x, py - y);
          if (distance < nearest) [best, nearest] = [n, distance];
        }
      }
    }
    return best;
  }
}
