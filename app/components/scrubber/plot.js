// What every figure needs: a sharp canvas, a cached static layer, axes, and dragging.

const FONT_SIZE = 12;

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** A canvas that is sharp on every screen; its context counts in CSS pixels. */
class Surface {
  /** While set, surfaces that are fitted are drawn in vectors and leave their canvases empty. */
  static inVectors = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.pixels = canvas.getContext("2d");
    this.context = this.pixels;
    this.width = 0;
    this.height = 0;
  }

  /** Fits the bitmap to the element's size at `ratio` pixels for each CSS pixel. This clears it: draw in the same frame. */
  fit(ratio) {
    const { clientWidth, clientHeight } = this.canvas;
    this.ratio = ratio;
    this.width = clientWidth;
    this.height = clientHeight;
    if (Surface.inVectors) VECTORS.set(this.canvas, new SvgContext(clientWidth, clientHeight));
    else VECTORS.delete(this.canvas);
    this.context = VECTORS.get(this.canvas) ?? this.pixels;
    const width = Math.max(1, Math.round(clientWidth * this.ratio));
    const height = Math.max(1, Math.round(clientHeight * this.ratio));
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    this.pixels.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
  }

  clear() {
    this.context.clearRect(0, 0, this.width, this.height);
  }

  /** Paints once what only changes with the size, the theme or the data. */
  paintLayer(paint) {
    this.paint = paint;
    if (Surface.inVectors) return;
    this.layer = newCanvas(this.canvas.width, this.canvas.height);
    const context = this.layer.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    paint(context);
  }

  drawLayer() {
    this.clear();
    if (Surface.inVectors) this.paint(this.context);
    else this.context.drawImage(this.layer, 0, 0, this.width, this.height);
  }
}

/** Maps data to CSS pixels inside margins. */
class Axes {
  /**
   * @param {Surface} surface
   * @param {{x: number[], y: number[], margin: {left: number, right: number, top: number, bottom: number}}} options
   */
  constructor(surface, { x, y, margin }) {
    this.x = x;
    this.y = y;
    this.left = margin.left;
    this.right = surface.width - margin.right;
    this.top = margin.top;
    this.bottom = surface.height - margin.bottom;
  }

  px(value) {
    return this.left + ((value - this.x[0]) / (this.x[1] - this.x[0])) * (this.right - this.left);
  }

  py(value) {
    return this.bottom - ((value - this.y[0]) / (this.y[1] - this.y[0])) * (this.bottom - this.top);
  }

  /** @returns {number[]} the data under a pixel, kept inside the axes. */
  invert(px, py) {
    const across = clamp((px - this.left) / (this.right - this.left), 0, 1);
    const up = clamp((this.bottom - py) / (this.bottom - this.top), 0, 1);
    return [this.x[0] + across * (this.x[1] - this.x[0]), this.y[0] + up * (this.y[1] - this.y[0])];
  }
}

/** Draws grid lines, tick labels and titles; the y title stands upright above its axis. */
function drawAxes(context, axes, theme, { xTitle, yTitle, xTicks, yTicks, grid = true }) {
  context.font = `${FONT_SIZE}px ${theme.font}`;
  context.lineWidth = 1;
  context.strokeStyle = theme.grid;
  context.fillStyle = theme.muted;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of yTicks) {
    const y = Math.round(axes.py(tick)) + 0.5;
    if (grid) strokeLine(context, axes.left, y, axes.right, y);
    context.fillText(formatTick(tick, yTicks), axes.left - 7, y);
  }
  context.textBaseline = "top";
  for (const tick of xTicks) {
    const x = Math.round(axes.px(tick)) + 0.5;
    context.textAlign = tick === xTicks.at(-1) ? "right" : tick === xTicks[0] ? "left" : "center";
    if (grid) strokeLine(context, x, axes.top, x, axes.bottom);
    const shift = context.textAlign === "center" ? 0 : context.textAlign === "left" ? -4 : 4;
    context.fillText(formatTick(tick, xTicks), x + shift, axes.bottom + 6);
  }
  context.textAlign = "center";
  context.fillText(xTitle, (axes.left + axes.right) / 2, axes.bottom + 21);
  context.textAlign = "left";
  context.fillText(yTitle, 2, 2);
}

function strokeLine(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function fillDot(context, x, y, radius, fill, ring) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  if (!ring) return;
  context.lineWidth = 2;
  context.strokeStyle = ring;
  context.stroke();
}

/** Traces a line through the points and lifts the pen where a value is not finite. */
function traceLine(context, axes, xs, ys) {
  context.beginPath();
  let isDown = false;
  for (let i = 0; i < xs.length; i++) {
    const isFinite = Number.isFinite(ys[i]);
    if (isFinite && isDown) context.lineTo(axes.px(xs[i]), axes.py(ys[i]));
    else if (isFinite) context.moveTo(axes.px(xs[i]), axes.py(ys[i]));
    isDown = isFinite;
  }
}

/** @returns {number[]} three to six round numbers within [low, high]. */
function niceTicks(low, high) {
  const rough = (high - low) / 4;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * decade).find((size) => size >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** @returns {string} the tick with the digits that its neighbours need. */
function formatTick(tick, ticks) {
  const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : Math.abs(tick) || 1;
  const digits = [0, 1, 2, 3, 4].find((count) => Math.abs(step - Number(step.toFixed(count))) < step * 1e-6) ?? 4;
  return signed(tick.toFixed(digits));
}

/** Writes a true minus sign. */
function signed(text) {
  return text.replace("-", "\u2212");
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

/** @returns {number[]} the smallest and the largest finite value, apart from each other even if all are equal. */
function finiteRange(values) {
  const finite = Array.from(values).filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

/** @returns {number} where in the increasing `grid` the entry nearest to `value` stands. */
function nearestIndex(grid, value) {
  let best = 0;
  for (let i = 1; i < grid.length; i++) {
    if (Math.abs(grid[i] - value) < Math.abs(grid[best] - value)) best = i;
  }
  return best;
}

/** @returns {number} the curve's value at `x` by linear interpolation, NaN outside of it. */
function valueAt(xs, ys, x) {
  const tolerance = 1e-4;
  if (x < xs[0] - tolerance || x > xs.at(-1) + tolerance) return NaN;
  const reached = xs.findIndex((candidate) => candidate >= x - 1e-9);
  const right = reached < 0 ? xs.length - 1 : Math.max(1, reached);
  const weight = clamp((x - xs[right - 1]) / (xs[right] - xs[right - 1]), 0, 1);
  // At a grid point its own value counts alone, even if the neighbour's is not finite.
  if (weight === 0) return ys[right - 1];
  if (weight === 1) return ys[right];
  return ys[right - 1] + weight * (ys[right] - ys[right - 1]);
}

/** Calls `move(x, y)` while a pointer drags over the canvas, in its CSS pixels, and `release()` at the end. */
function onDrag(canvas, move, release) {
  const report = (event) => {
    const box = canvas.getBoundingClientRect();
    move(event.clientX - box.left, event.clientY - box.top);
  };
  canvas.onpointerdown = (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    report(event);
  };
  canvas.onpointermove = (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) report(event);
  };
  canvas.onpointerup = release;
  canvas.onpointercancel = release;
}
