// The charts beneath: λ(s) with the steps of each run, and numbers of each run against s; time runs to the right.

const RUN_AXIS = "scalar s: 1 noise, 0 sample";
const RUN_MARGIN = { ...CHART_MARGIN, left: 44 };
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

/** A chart whose axis falls from noise to sample. */
class FallingChart extends CursorChart {
  prepare(theme) {
    this.theme = theme;
    this.axes = new Axes(this.surface, { x: [1, 0], y: this.yRange(), margin: RUN_MARGIN });
    this.surface.paintLayer((context) => {
      const xTicks = [1, 0.75, 0.5, 0.25, 0];
      drawAxes(context, this.axes, theme, { xTitle: RUN_AXIS, yTitle: this.yTitle(), xTicks, yTicks: this.yTicks() });
      this.paintCurves(context);
    });
  }
}

class RunLambdaChart extends FallingChart {
  setRuns(runs) {
    this.runs = runs.filter((run) => run.arrays.curve);
    this.colors = runs.map((run, i) => COLUMN_COLORS[i]).filter((_, i) => runs[i].arrays.curve);
  }

  yRange() {
    return [0, 1];
  }

  yTitle() {
    return "λ: 0 at θ0, 1 at θ1";
  }

  yTicks() {
    return [0.25, 0.5, 0.75];
  }

  paintCurves(context) {
    LambdaChart.prototype.paintParameterScale.call(this, context);
    this.runs.forEach(({ arrays }, i) => {
      const points = arrays.curve.shape[1];
      context.strokeStyle = css(LAMBDA);
      context.lineWidth = 2;
      context.setLineDash(DASHES[i]);
      traceLine(context, this.axes, arrays.curve.values.subarray(0, points), arrays.curve.values.subarray(points));
      context.stroke();
      context.setLineDash([]);
    });
    this.runs.forEach(({ arrays }, i) => {
      arrays.s.values.forEach((s, k) => {
        fillDot(context, this.axes.px(s), this.axes.py(arrays.lam.values[k]), 2, this.colors[i], null);
      });
    });
  }

  drawMarks(context, { s }) {
    this.runs.forEach((run, i) => {
      const { k } = momentOf(run, s);
      const [x, y] = [this.axes.px(run.arrays.s.values[k]), this.axes.py(run.arrays.lam.values[k])];
      fillDot(context, x, y, 5, parameterColor(run.arrays.lam.values[k]), this.colors[i]);
    });
  }
}

/** One line for each run. */
class RunCurveChart extends FallingChart {
  /** @param {{name: string, color: string, s: Float32Array, y: Float32Array}[]} curves - `s` rising. */
  setCurves(curves, title) {
    this.curves = curves;
    this.title = title;
  }

  yRange() {
    const [low, high] = finiteRange([0, ...this.curves.flatMap(({ y }) => [...y])]);
    return [Math.min(0, low), high + 0.06 * (high - low)];
  }

  yTitle() {
    return this.title;
  }

  yTicks() {
    return niceTicks(...this.yRange());
  }

  paintCurves(context) {
    for (const { s, y, color } of this.curves) {
      context.strokeStyle = color;
      context.lineWidth = 2;
      traceLine(context, this.axes, s, y);
      context.stroke();
    }
  }

  drawMarks(context, { s }) {
    for (const curve of this.curves) {
      const value = valueAt(curve.s, curve.y, s);
      if (Number.isFinite(value)) fillDot(context, this.axes.px(s), this.axes.py(value), 4, curve.color, null);
    }
  }
}

/** @returns {{s: Float32Array, y: Float32Array}} root mean square difference of two runs' states, at the first one's s. */
function distanceBetween(run, reference) {
  const levels = run.arrays.s.values;
  const { values, scale, shape } = run.arrays.x;
  const other = reference.arrays.x;
  const size = values.length / shape[0];
  const y = Float32Array.from(levels, (s, at) => {
    const { k, fraction } = momentOf(reference, s);
    const next = Math.min(k + 1, reference.native.length - 1);
    let sum = 0;
    for (let i = 0; i < size; i++) {
      const there = (1 - fraction) * other.values[k * size + i] + fraction * other.values[next * size + i];
      sum += (values[at * size + i] * scale - there * other.scale) ** 2;
    }
    return Math.sqrt(sum / size);
  });
  return { s: levels.slice().reverse(), y: y.reverse() };
}
