// The table: one row for each layer or folded module, its strip over s beside it. Only rows in sight are in the page.

const ROW = 18;
const EXPORT_TABLE = { label: 250, strip: 520, bar: 90, margin: 20, top: 78, bottom: 64, letters: 135 };

/** Rows in sight as elements, their strips on one canvas that stays in place while the rows scroll. */
class LayerTable {
  /**
   * @param {HTMLElement} element - holds .rows, .names, .strips canvas and the axis canvas.
   * @param {object} handlers - onPick(row, s | null), onHover(row, s), onLeave(), onToggle(node), onKey(event).
   */
  constructor(element, handlers) {
    this.handlers = handlers;
    this.scroller = element.querySelector(".rows");
    this.names = element.querySelector(".names");
    this.strips = new Surface(element.querySelector(".strips canvas"));
    this.axis = new Surface(element.querySelector(".axis canvas"));
    this.pool = [];
    this.scroller.onscroll = () => this.draw();
    this.scroller.onkeydown = (event) => handlers.onKey(event);
    this.bindStrips(this.strips.canvas);
  }

  bindStrips(canvas) {
    const locate = (event) => {
      const box = canvas.getBoundingClientRect();
      const index = Math.floor((event.clientY - box.top + this.scroller.scrollTop) / ROW);
      return [this.rows[index], clamp((event.clientX - box.left) / box.width, 0, 1)];
    };
    canvas.onpointermove = (event) => {
      const [row, s] = locate(event);
      if (row) this.handlers.onHover(row, s);
    };
    canvas.onpointerleave = () => this.handlers.onLeave();
    canvas.onclick = (event) => {
      const [row, s] = locate(event);
      if (row) this.handlers.onPick(row, s);
    };
  }

  setRows(rows) {
    this.rows = rows;
    this.names.style.height = `${rows.length * ROW}px`;
  }

  fit(ratio) {
    const height = Math.min(this.scroller.clientHeight, this.rows.length * ROW);
    this.strips.canvas.style.height = `${height}px`;
    this.strips.fit(ratio);
    this.axis.fit(ratio);
  }

  /** Scrolls no further than needed to show a row. */
  show(index) {
    const { scrollTop, clientHeight } = this.scroller;
    if (index * ROW < scrollTop) this.scroller.scrollTop = index * ROW;
    else if ((index + 1) * ROW > scrollTop + clientHeight) this.scroller.scrollTop = (index + 1) * ROW - clientHeight;
  }

  /** @param {object} view - {statistic, theme, s, active, folded, sizes, largest}: all that the rows depend on. */
  draw(view = this.view) {
    this.view = view;
    if (!view || !this.rows) return;
    const first = Math.floor(this.scroller.scrollTop / ROW);
    const count = Math.ceil(this.scroller.clientHeight / ROW) + 1;
    const visible = this.rows.slice(first, first + count);
    this.drawNames(visible, first);
    this.drawStrips(visible, first);
  }

  drawNames(visible, first) {
    while (this.pool.length < visible.length) this.pool.push(this.newRow());
    this.pool.forEach((element, i) => {
      element.hidden = i >= visible.length;
      if (i < visible.length) this.fillRow(element, visible[i], first + i);
    });
  }

  newRow() {
    const element = document.createElement("div");
    element.className = "row";
    element.setAttribute("role", "treeitem");
    for (const name of ["twist", "swatch", "name", "size"]) {
      element.append(Object.assign(document.createElement("span"), { className: name }));
    }
    element.onclick = () => this.handlers.onPick(element.node, null);
    element.firstChild.onclick = (event) => {
      if (element.node.layer !== null) return;
      event.stopPropagation();
      this.handlers.onToggle(element.node);
    };
    this.names.append(element);
    return element;
  }

  fillRow(element, node, index) {
    const { statistic, theme, s, active, folded, sizes, largest } = this.view;
    const [twist, swatch, name, size] = element.children;
    const isGroup = node.layer === null;
    const isOpen = isGroup && !folded.has(node.path);
    const value = statistic.at(node.layers, statistic.nearestLevel(s));
    const numel = node.layers.reduce((sum, layer) => sum + sizes[layer], 0);
    element.node = node;
    element.style.top = `${index * ROW}px`;
    element.style.setProperty("--level", node.level);
    element.dataset.path = node.path;
    element.setAttribute("aria-level", node.level + 1);
    element.setAttribute("aria-selected", node.path === active);
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.rows.length);
    if (isGroup) element.setAttribute("aria-expanded", isOpen);
    else element.removeAttribute("aria-expanded");
    write(twist, isGroup ? (isOpen ? "▾" : "▸") : "");
    write(name, node.label);
    write(size, formatCount(numel));
    size.style.setProperty("--share", isOpen ? 0 : numel / largest);
    swatch.style.background = statistic.color(value, this.colors(statistic, theme));
    const what = isGroup ? `${node.layers.length} layers, mean` : node.kind;
    element.title = `${node.path.replace(/\/$/, "")} (${what}): ${numel.toLocaleString("en")} parameters, ${statistic.format(value)}`;
  }

  /** The table of colours is made once for each statistic and theme. */
  colors(statistic, theme) {
    if (this.madeFor?.statistic !== statistic || this.madeFor.theme !== theme) {
      this.madeFor = { statistic, theme, table: statistic.table(theme.dark) };
    }
    return this.madeFor.table;
  }

  drawStrips(visible, first) {
    const { statistic, theme, s, active } = this.view;
    const { context, width } = this.strips;
    this.strips.clear();
    context.save();
    context.translate(0, first * ROW - this.scroller.scrollTop);
    paintStrips(context, visible, statistic, this.colors(statistic, theme), width);
    const at = visible.findIndex((node) => node.path === active);
    if (at >= 0) {
      const stroke = haloStroke(context, theme, theme.text);
      stroke(() => context.strokeRect(1, at * ROW, width - 2, ROW - 1));
    }
    context.restore();
    const stroke = haloStroke(context, theme, theme.primary);
    stroke(() => strokeLine(context, s * width, 0, s * width, this.strips.height));
  }

  /** The s axis and the scale of colours; they change with size, theme and statistic only. */
  drawAxis({ statistic, theme }) {
    const { context, width } = this.axis;
    this.axis.clear();
    paintAxis(context, theme, width);
    paintScale(this.axis.canvas.parentElement.querySelector(".ramp"), statistic, this.colors(statistic, theme));
  }
}

/** @returns {(trace: () => void) => void} strokes in a colour that stays visible on any other. */
function haloStroke(context, theme, color) {
  return (trace) => {
    for (const [width, style] of [
      [4, theme.background],
      [2, color],
    ]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      trace();
    }
  };
}

function paintStrips(context, rows, statistic, colors, width, top = 0) {
  rows.forEach((node, index) => {
    for (let i = 0; i < statistic.levels; i++) {
      const [left, right] = [statistic.edges[i] * width, statistic.edges[i + 1] * width];
      context.fillStyle = statistic.color(statistic.at(node.layers, i), colors);
      // Half a pixel of overlap hides the seams of antialiased edges.
      context.fillRect(left, top + index * ROW, right - left + (i + 1 < statistic.levels ? 0.5 : 0), ROW - 1);
    }
  });
}

function paintAxis(context, theme, width, left = 0, top = 0) {
  context.font = `${FONT_SIZE}px ${theme.font}`;
  context.fillStyle = theme.muted;
  context.textBaseline = "top";
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    context.textAlign = tick === 0 ? "left" : tick === 1 ? "right" : "center";
    context.fillText(String(tick), left + tick * width, top + 4);
  }
  context.textAlign = "center";
  context.fillText("noise level s: 0 clean, 1 noise", left + width / 2, top + 20);
}

function paintScale(ramp, statistic, colors) {
  const stops = [0, 51, 102, 153, 204, 255].map((at) => css(colors[at]));
  ramp.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const [low, high] = statistic.range;
  write(ramp.previousElementSibling, formatValue(low));
  write(ramp.nextElementSibling, `${formatValue(high)}${statistic.unit ? ` ${statistic.unit}` : ""}`);
}

/** Paints the whole table, rows out of sight too, on a canvas or into SVG. */
function paintTable(context, { rows, statistic, theme, title, caption, width, height }) {
  const { label, strip, margin, top } = EXPORT_TABLE;
  const colors = statistic.table(theme.dark);
  context.fillStyle = theme.background;
  context.fillRect(0, 0, width, height);
  context.textBaseline = "top";
  context.textAlign = "left";
  context.fillStyle = theme.text;
  context.font = `600 15px ${theme.font}`;
  context.fillText(title, margin, margin - 4);
  context.font = `${FONT_SIZE}px ${theme.font}`;
  context.fillStyle = theme.muted;
  wrapWords(caption, EXPORT_TABLE.letters).forEach((line, i) => context.fillText(line, margin, margin + 18 + 15 * i));
  rows.forEach((node, index) => {
    context.fillStyle = theme.text;
    context.fillText(node.label, margin + 12 * node.level, top + index * ROW + 3);
  });
  context.translate(margin + label, 0);
  paintStrips(context, rows, statistic, colors, strip, top);
  paintAxis(context, theme, strip, 0, top + rows.length * ROW);
  const bar = strip + 16;
  for (let i = 0; i < 64; i++) {
    context.fillStyle = css(colors[255 - 4 * i]);
    context.fillRect(bar, top + 20 + 2 * i, 12, 2.5);
  }
  context.fillStyle = theme.muted;
  context.textAlign = "left";
  context.fillText(`${formatValue(statistic.range[1])} ${statistic.unit}`, bar, top + 2);
  context.fillText(formatValue(statistic.range[0]), bar, top + 152);
  context.translate(-margin - label, 0);
}

/** @returns {string[]} lines of at most `letters` letters. */
function wrapWords(text, letters) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length >= letters) lines.push(word);
    else lines[lines.length - 1] += `${lines.at(-1) && " "}${word}`;
  }
  return lines;
}

/** @returns {{width: number, height: number}} of the whole table in a picture. */
function tableSize(rows) {
  const { label, strip, bar, margin, top, bottom } = EXPORT_TABLE;
  return { width: 2 * margin + label + strip + bar, height: top + Math.max(rows.length * ROW, 180) + bottom };
}

/** @returns {string} 412, 36.9 k, 1.2 M. */
function formatCount(count) {
  if (count < 1000) return String(count);
  const [value, unit] = count < 999_500 ? [count / 1000, "k"] : [count / 1e6, "M"];
  return `${value.toFixed(value < 9.95 ? 1 : 0)} ${unit}`;
}
