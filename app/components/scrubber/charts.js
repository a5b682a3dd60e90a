// Charts against s under the shared cursor: λ(s), and the quality of x̂0.

const CHART_MARGIN = { left: 36, right: 12, top: 24, bottom: 40 };
const S_TITLE = "scalar s: 0 clean, 1 noise";

/** What both charts share: axes, a cached layer, a cursor line, and scrubbing by hand. */
class CursorChart {
  /**
   * @param {Surface} surface
   * @param {{onMove: (s: number) => void, onRelease: () => void}} handlers
   */
  constructor(surface, { onMove, onRelease }) {
    this.surface = surface;
    onDrag(surface.canvas, (x, y) => this.axes && onMove(this.axes.invert(x, y)[0]), onRelease);
  }

  /** Paints what does not follow the cursor. Call it after a change of size, theme or data. */
  prepare(theme) {
    this.theme = theme;
    this.axes = new Axes(this.surface, { x: [0, 1], y: this.yRange(), margin: CHART_MARGIN });
    this.surface.paintLayer((context) => {
      drawAxes(context, this.axes, theme, {
        xTitle: S_TITLE,
        yTitle: this.yTitle(),
        xTicks: [0, 0.25, 0.5, 0.75, 1],
        yTicks: this.yTicks(),
      });
      this.paintCurves(context);
    });
  }

  draw(moment) {
    const { context } = this.surface;
    this.surface.drawLayer();
    const x = this.axes.px(moment.s);
    context.strokeStyle = this.theme.primary;
    context.lineWidth = 1.5;
    strokeLine(context, x, this.axes.top, x, this.axes.bottom);
    this.drawMarks(context, moment);
  }
}

/** λ(s) between the two parameter sets. */
class LambdaChart extends CursorChart {
  setSweep(sweep) {
    this.s = sweep.arrays.s.values;
    this.lam = sweep.arrays.lam.values;
    this.beside = sweep.arrays["beside/lam"]?.values;
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
    this.paintParameterScale(context);
    context.strokeStyle = css(LAMBDA);
    context.lineJoin = "round";
    if (this.beside) this.paintLine(context, this.beside, 1.5, [6, 4]);
    this.paintLine(context, this.lam, 2.5, []);
    for (const end of [0, this.s.length - 1]) {
      const [x, y] = [this.axes.px(this.s[end]), this.axes.py(this.lam[end])];
      fillDot(context, x, y, 4, parameterColor(this.lam[end]), this.theme.background);
    }
  }

  paintLine(context, lam, width, dashes) {
    context.lineWidth = width;
    context.setLineDash(dashes);
    traceLine(context, this.axes, this.s, lam);
    context.stroke();
    context.setLineDash([]);
  }

  /** The λ axis is the path between the parameter sets: a bar from θ0 at the bottom to θ1 at the top. */
  paintParameterScale(context) {
    const { left, top, bottom } = this.axes;
    const gradient = context.createLinearGradient(0, bottom, 0, top);
    gradient.addColorStop(0, css(THETA0));
    gradient.addColorStop(1, css(THETA1));
    context.fillStyle = gradient;
    context.fillRect(left - 4, top, 4, bottom - top);
    context.font = `600 ${FONT_SIZE + 1}px ${this.theme.font}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = css(this.theme.dark ? mix(THETA0, [255, 255, 255], 0.35) : THETA0);
    context.fillText("θ0", left - 8, bottom);
    context.fillStyle = css(THETA1);
    context.fillText("θ1", left - 8, top);
  }

  drawMarks(context, moment) {
    const x = this.axes.px(moment.s);
    const fill = moment.cell ? this.theme.background : css(LAMBDA);
    if (moment.besideLam !== null) fillDot(context, x, this.axes.py(moment.besideLam), 3, css(LAMBDA), null);
    fillDot(context, x, this.axes.py(moment.learned), 5, fill, this.theme.primary);
    if (moment.cell) fillDot(context, x, this.axes.py(moment.lam), 5, parameterColor(moment.lam), this.theme.primary);
  }
}

/** Curves of several models with their intervals; the one on show is drawn last and heavier. */
class CurveChart extends CursorChart {
  setChart(chart, arrays) {
    const others = chart.curves.filter((curve) => curve.role !== "this");
    const colorOf = (curve) =>
      curve.color ?? (curve.role === "this" ? THIS_CURVE : OTHER_CURVES[others.indexOf(curve) % OTHER_CURVES.length]);
    const part = (curve, name) => arrays[`${curve.arrays}/${name}`]?.values;
    this.chart = chart;
    this.curves = chart.curves.map((curve) => ({
      ...curve,
      color: colorOf(curve),
      s: part(curve, "s"),
      y: part(curve, "y"),
      low: part(curve, "low"),
      high: part(curve, "high"),
    }));
  }

  yRange() {
    const [low, high] = finiteRange(this.curves.flatMap(({ y, low, high }) => [...y, ...(low ?? []), ...(high ?? [])]));
    const margin = 0.04 * (high - low);
    return [low - margin, high + margin];
  }

  yTitle() {
    return this.chart.y_label;
  }

  yTicks() {
    return niceTicks(...this.yRange());
  }

  paintCurves(context) {
    const emphasisLast = [...this.curves].sort((a, b) => (a.role === "this") - (b.role === "this"));
    for (const curve of emphasisLast) if (curve.low) this.paintInterval(context, curve);
    for (const curve of emphasisLast) this.paintCurve(context, curve);
  }

  paintInterval(context, { s, low, high, color }) {
    context.beginPath();
    for (let i = 0; i < s.length; i++) context.lineTo(this.axes.px(s[i]), this.axes.py(high[i]));
    for (let i = s.length - 1; i >= 0; i--) context.lineTo(this.axes.px(s[i]), this.axes.py(low[i]));
    context.fillStyle = css(parseHex(color), 0.2);
    context.fill();
  }

  paintCurve(context, { s, y, color, dashed, role }) {
    context.strokeStyle = color;
    context.lineWidth = role === "this" ? 3 : 1.5;
    context.lineJoin = "round";
    context.setLineDash(dashed ? [6, 4] : []);
    traceLine(context, this.axes, s, y);
    context.stroke();
    context.setLineDash([]);
  }

  /** @returns {number[]} each curve's value under the cursor. */
  valuesAt(s) {
    return this.curves.map((curve) => valueAt(curve.s, curve.y, s));
  }

  drawMarks(context, moment) {
    const x = this.axes.px(moment.s);
    this.valuesAt(moment.s).forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      const { role, color } = this.curves[i];
      const isThis = role === "this";
      fillDot(context, x, this.axes.py(value), isThis ? 5 : 3, color, isThis ? this.theme.primary : null);
    });
  }
}
