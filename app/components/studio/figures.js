// The studio's charts: λ(s), its slope, what the drawn curve gains, and the landscape.

const DRAWN = "#e69f00";
const OTHERS = "#8c8c8c";
const BESIDE = { color: css(LAMBDA), width: 2, dash: [6, 4] };
const NICE_REACH = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
const CLIP_DB = -3;

/** @returns {number} the smallest round number that is at least `value`. */
function niceReach(value) {
  return NICE_REACH.find((reach) => reach >= value) ?? Math.ceil(value);
}

/**
 * Lines of the studio: learned in purple, λ* dashed in the theme's text colour, the drawn curve in orange on top. It moves
 * with the hand, so it is among the marks and not in the cached layer.
 */
class StudioChart extends CursorChart {
  stroke(context, values, { color, width = 2.5, dash = [] }) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dash);
    traceLine(context, this.axes, this.s, values);
    context.stroke();
    context.setLineDash([]);
  }

  /** Keeps lines inside the axes. */
  clipped(context, paint) {
    const { left, right, top, bottom } = this.axes;
    context.save();
    context.beginPath();
    context.rect(left - 3, top - 3, right - left + 6, bottom - top + 6);
    context.clip();
    paint();
    context.restore();
  }
}

/** λ(s), to be dragged. */
class CurveEditor extends StudioChart {
  /** @param {{onPull: (k: number, lam: number, isFirst: boolean) => void, onRelease: () => void}} handlers */
  constructor(surface, { onPull, onRelease }) {
    super(surface, { onMove: () => {}, onRelease });
    const release = () => {
      this.grip = null;
      onRelease();
    };
    onDrag(
      surface.canvas,
      (x, y) => {
        if (!this.axes) return;
        const [s, lam] = this.axes.invert(x, y);
        const isFirst = this.grip == null;
        this.grip ??= nearestIndex(this.s, s);
        onPull(this.grip, lam, isFirst);
      },
      release,
    );
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
    this.stroke(context, this.valley, { color: this.theme.text, width: 1.5, dash: [2, 3] });
    this.stroke(context, this.learned, { color: css(LAMBDA), width: 4 });
    if (this.beside) this.stroke(context, this.beside, BESIDE);
  }

  drawMarks(context, { curve, others, k, s, lam }) {
    for (const other of others) this.stroke(context, other, { color: OTHERS, width: 1.5 });
    this.stroke(context, curve, { color: DRAWN, width: 2 });
    for (let i = 0; i < curve.length; i += 2) {
      fillDot(context, this.axes.px(this.s[i]), this.axes.py(curve[i]), 2.5, DRAWN);
    }
    fillDot(context, this.axes.px(s), this.axes.py(lam), 6, parameterColor(lam), this.theme.primary);
    this.surface.canvas.dataset.k = k;
  }
}

/** DB that the drawn curve gains over the learned one at each s. */
class GainChart extends StudioChart {
  yRange() {
    const [low, high] = this.reach ?? [-0.1, 0.1];
    return [low, high];
  }

  yTitle() {
    return "dB against the learned λ(s)";
  }

  yTicks() {
    return niceTicks(...this.yRange());
  }

  paintCurves(context) {
    this.clipped(context, () => {
      this.stroke(context, this.bestGain, { color: this.theme.text, width: 1.5, dash: [2, 3] });
      this.stroke(
        context,
        this.s.map(() => 0),
        { color: css(LAMBDA), width: 4 },
      );
    });
  }

  /** @returns {boolean} whether the axis has to be painted anew for these gains. */
  fitTo(gain) {
    const judged = [...gain, ...this.bestGain].filter((value, i) => this.judged[i % gain.length] && !Number.isNaN(value));
    const reach = [-niceReach(-Math.min(0, ...judged)), niceReach(Math.max(0, ...judged))];
    // The side on which little happens gets a tenth of the axis, so that zero stays in sight.
    reach[1] = Math.max(reach[1], -reach[0] / 10);
    const isNew = !this.reach || reach.some((end, i) => end !== this.reach[i]);
    this.reach = reach;
    return isNew;
  }

  drawMarks(context, { gain, s, k }) {
    this.clipped(context, () => {
      this.stroke(context, gain, { color: DRAWN, width: 2.5 });
      if (!Number.isNaN(gain[k])) {
        fillDot(context, this.axes.px(s), this.axes.py(gain[k]), 5, DRAWN, this.theme.primary);
      }
    });
  }
}

/** Dλ/ds: where along s the way from θ0 to θ1 is spent. */
class SlopeChart extends StudioChart {
  yRange() {
    return [Math.min(0, this.low ?? 0), this.high ?? 2];
  }

  yTitle() {
    return "dλ/ds (1 on a straight line)";
  }

  yTicks() {
    return niceTicks(...this.yRange());
  }

  setRange() {
    const steepest = Math.max(...this.learnedSlope, ...(this.besideSlope ?? []), 1.2);
    this.high = Math.ceil(steepest * 2) / 2;
  }

  paintCurves(context) {
    this.stroke(context, this.learnedSlope, { color: css(LAMBDA), width: 4 });
    if (this.besideSlope) this.stroke(context, this.besideSlope, BESIDE);
  }

  drawMarks(context, { curve }) {
    this.clipped(context, () => this.stroke(context, slopesOf(curve, this.s), { color: DRAWN, width: 2 }));
  }
}

/** The plane of noise level and λ with the three curves over it; a click moves the cursor, hovering shows where to. */
class LandscapeChart extends PadChart {
  /** @param {{onMove: (point: number[]) => void, onRelease: () => void, onHover: (point: number[] | null) => void}} handlers */
  constructor(surface, { onMove, onRelease, onHover }) {
    super(surface, { onMove, onRelease });
    const { canvas } = surface;
    canvas.onmousemove = ({ offsetX, offsetY, buttons }) => {
      if (this.axes && !buttons) onHover(this.axes.invert(offsetX, offsetY));
    };
    canvas.onmouseleave = () => onHover(null);
  }

  nearestCell(point) {
    return point;
  }

  paintLearned(context) {
    super.paintLearned(context);
    this.line(context, this.valley, this.theme.dark ? "#ffffff" : "#000000", 1.5, [2, 3]);
  }

  line(context, values, color, width, dash = []) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash(dash);
    traceLine(context, this.axes, this.s, values);
    context.stroke();
    context.setLineDash([]);
  }

  draw({ curve, others, s, lam }) {
    const { context } = this.surface;
    this.surface.drawLayer();
    for (const other of others) this.line(context, other, "rgba(255, 255, 255, 0.8)", 1.5);
    this.line(context, curve, "rgba(0, 0, 0, 0.6)", 4);
    this.line(context, curve, DRAWN, 2);
    const x = this.axes.px(s);
    context.strokeStyle = this.theme.primary;
    context.lineWidth = 1.5;
    strokeLine(context, x, this.axes.top, x, this.axes.bottom);
    fillDot(context, x, this.axes.py(lam), 6, parameterColor(lam), this.theme.primary);
  }
}
