// The pad: how good x̂0 is over noise level and parameter position, with a handle that decouples the two.

const PAD_MARGIN = { left: 36, right: 62, top: 24, bottom: 40 };
const COLOR_BAR = { offset: 14, width: 10 };

/** A heatmap with the learned λ(s) over it and a handle that a pointer drags. */
class PadChart {
  /**
   * @param {Surface} surface
   * @param {{onMove: (point: number[]) => void, onRelease: () => void}} handlers
   */
  constructor(surface, { onMove, onRelease }) {
    this.surface = surface;
    onDrag(surface.canvas, (x, y) => this.axes && onMove(this.nearestCell(this.axes.invert(x, y))), onRelease);
  }

  setPad(pad) {
    const { s, lam, score, learned } = pad.arrays;
    this.pad = pad;
    this.s = s.values;
    this.lam = lam.values;
    this.score = score.values;
    this.learned = learned.values;
    this.range = finiteRange(this.score);
  }

  /** Paints what does not follow the handle. Call it after a change of size, theme or data. */
  prepare(theme) {
    this.theme = theme;
    this.axes = new Axes(this.surface, {
      x: [this.s[0], this.s.at(-1)],
      y: [this.lam[0], this.lam.at(-1)],
      margin: PAD_MARGIN,
    });
    this.surface.paintLayer((context) => {
      this.paintCells(context);
      drawAxes(context, this.axes, theme, {
        xTitle: "noise level s",
        yTitle: "parameters λ",
        xTicks: niceTicks(...this.axes.x),
        yTicks: niceTicks(...this.axes.y),
        grid: false,
      });
      this.paintColorBar(context);
      this.paintLearned(context);
    });
  }

  /** Each cell reaches half-way to its neighbours. */
  paintCells(context) {
    const colors = this.colors();
    const xs = cellEdges(this.s).map((value) => this.axes.px(value));
    const ys = cellEdges(this.lam).map((value) => this.axes.py(value));
    for (let j = 0; j < this.lam.length; j++) {
      for (let i = 0; i < this.s.length; i++) {
        const score = this.score[j * this.s.length + i];
        if (!Number.isFinite(score)) continue;
        const at = Math.round(((score - this.range[0]) / (this.range[1] - this.range[0])) * 255);
        context.fillStyle = css(colors[at]);
        // One pixel of overlap hides the seams of antialiased edges.
        context.fillRect(xs[i], ys[j + 1], xs[i + 1] - xs[i] + (i + 1 < this.s.length), ys[j] - ys[j + 1] + (j > 0));
      }
    }
  }

  /** Bright is better, whichever way the score counts. */
  colors() {
    const table = colorTable(VIRIDIS);
    return this.pad.higher_is_better ? table : table.reverse();
  }

  paintColorBar(context) {
    const { right, top, bottom } = this.axes;
    const left = right + COLOR_BAR.offset;
    const gradient = context.createLinearGradient(0, bottom, 0, top);
    this.colors().forEach((color, i) => gradient.addColorStop(i / 255, css(color)));
    context.fillStyle = gradient;
    context.fillRect(left, top, COLOR_BAR.width, bottom - top);
    const ticks = niceTicks(...this.range);
    context.fillStyle = this.theme.muted;
    context.textAlign = "left";
    context.textBaseline = "middle";
    for (const tick of ticks) {
      const up = (tick - this.range[0]) / (this.range[1] - this.range[0]);
      context.fillText(formatTick(tick, ticks), left + COLOR_BAR.width + 5, bottom - up * (bottom - top));
    }
    context.textAlign = "right";
    context.textBaseline = "top";
    context.fillText(this.scoreTitle(), this.surface.width - 2, 2);
  }

  scoreTitle() {
    return this.pad.unit ? `${this.pad.label} (${this.pad.unit})` : this.pad.label;
  }

  paintLearned(context) {
    context.lineJoin = "round";
    traceLine(context, this.axes, this.s, this.learned);
    context.lineWidth = 6;
    context.strokeStyle = "rgba(255, 255, 255, 0.9)";
    context.stroke();
    context.lineWidth = 3;
    context.strokeStyle = css(LAMBDA);
    context.stroke();
  }

  draw(moment) {
    const { context } = this.surface;
    this.surface.drawLayer();
    const x = this.axes.px(clamp(moment.s, ...this.axes.x));
    const y = this.axes.py(clamp(moment.lam, ...this.axes.y));
    context.strokeStyle = this.theme.primary;
    context.lineWidth = 1.5;
    strokeLine(context, x, this.axes.top, x, this.axes.bottom);
    fillDot(context, x, y, 9, "rgba(0, 0, 0, 0.35)", "#ffffff");
    fillDot(context, x, y, 6, moment.cell ? parameterColor(moment.lam) : css(LAMBDA), this.theme.primary);
  }

  /** @returns {number[]} the (s, λ) of the cell nearest to a point. */
  nearestCell([s, lam]) {
    return [this.s[nearestIndex(this.s, s)], this.lam[nearestIndex(this.lam, lam)]];
  }

  /** @returns {number[]} the (s, λ) of the cell `columns` to the right of and `rows` above the moment's. */
  neighbour(moment, columns, rows) {
    const i = moment.cell ? moment.cell.i : nearestIndex(this.s, moment.s);
    const j = moment.cell ? moment.cell.j : nearestIndex(this.lam, moment.lam);
    return [this.s[clamp(i + columns, 0, this.s.length - 1)], this.lam[clamp(j + rows, 0, this.lam.length - 1)]];
  }
}

/** @returns {number[]} the borders between the entries of an increasing grid, and its two ends. */
function cellEdges(grid) {
  const middles = Array.from(grid.subarray(1), (value, i) => (value + grid[i]) / 2);
  return [grid[0], ...middles, grid.at(-1)];
}
