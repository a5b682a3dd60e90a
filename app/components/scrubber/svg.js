// A figure in vectors: what of a canvas's context the figures draw with, written as SVG.

/** Canvas -> what was last drawn on it in vectors; a picture that is put together takes this instead of the pixels. */
const VECTORS = new WeakMap();

/** What every program has. */
const COMMON_FONT = "Arial, Helvetica, sans-serif";

const ANCHOR = { left: "start", center: "middle", right: "end" };

/** Where a text's baseline lies below its anchor, in parts of the size of its letters. */
const BASELINE = { top: 0.8, middle: 0.33, bottom: -0.22, alphabetic: 0 };

const KEPT_STATE = [
  "fillStyle",
  "strokeStyle",
  "lineWidth",
  "lineJoin",
  "globalAlpha",
  "font",
  "textAlign",
  "textBaseline",
  "dashes",
  "shift",
];

class SvgContext {
  static names = 0;

  constructor(width, height) {
    Object.assign(this, { width, height, fillStyle: "#000000", strokeStyle: "#000000", lineWidth: 1, lineJoin: "miter" });
    Object.assign(this, { globalAlpha: 1, font: "10px sans-serif", textAlign: "left", textBaseline: "alphabetic" });
    Object.assign(this, { dashes: [], shift: [0, 0], saved: [], clips: 0 });
    this.clear();
  }

  clear() {
    this.parts = [];
    this.path = "";
  }

  clearRect() {
    this.clear();
  }

  // State

  save() {
    this.saved.push({ clips: this.clips, ...Object.fromEntries(KEPT_STATE.map((name) => [name, this[name]])) });
  }

  restore() {
    const { clips, ...state } = this.saved.pop();
    for (; this.clips > clips; this.clips--) this.parts.push("</g>");
    Object.assign(this, state);
  }

  translate(x, y = 0) {
    this.shift = [this.shift[0] + x, this.shift[1] + y];
  }

  setLineDash(dashes) {
    this.dashes = dashes;
  }

  /** Everything until the next `restore` is kept inside the path. */
  clip() {
    const name = this.define((id) => `<clipPath id="${id}"><path d="${this.path}"/></clipPath>`);
    this.parts.push(`<g clip-path="url(#${name})">`);
    this.clips++;
  }

  createLinearGradient(x0, y0, x1, y1) {
    const stops = [];
    return {
      addColorStop: (at, color) => stops.push(`<stop offset="${at.toFixed(4)}" ${paint("stop-color", color)}/>`),
      toString: () => {
        const ends = [x0 + this.shift[0], y0 + this.shift[1], x1 + this.shift[0], y1 + this.shift[1]].map(short);
        const line = `gradientUnits="userSpaceOnUse" x1="${ends[0]}" y1="${ends[1]}" x2="${ends[2]}" y2="${ends[3]}"`;
        return `url(#${this.define((id) => `<linearGradient id="${id}" ${line}>${stops.join("")}</linearGradient>`)})`;
      },
    };
  }

  /** Writes what is referred to by name. */
  define(write) {
    const name = `figure-${SvgContext.names++}`;
    this.parts.push(`<defs>${write(name)}</defs>`);
    return name;
  }

  // Paths

  beginPath() {
    this.path = "";
  }

  moveTo(x, y) {
    this.path += `M${this.point(x, y)}`;
  }

  /** A path may begin with a line, which then is a move. */
  lineTo(x, y) {
    this.path += `${this.path ? "L" : "M"}${this.point(x, y)}`;
  }

  rect(x, y, width, height) {
    this.path += `M${this.point(x, y)}h${short(width)}v${short(height)}h${short(-width)}z`;
  }

  /** Whole circles only. */
  arc(x, y, radius) {
    const half = `a${short(radius)},${short(radius)} 0 1 0`;
    this.path += `M${this.point(x - radius, y)}${half} ${short(2 * radius)},0${half} ${short(-2 * radius)},0z`;
  }

  point(x, y) {
    return `${short(x + this.shift[0])},${short(y + this.shift[1])}`;
  }

  fill() {
    this.add(this.path, `${paint("fill", this.fillStyle)}`);
  }

  stroke() {
    const dashes = this.dashes.length ? ` stroke-dasharray="${this.dashes.join(" ")}"` : "";
    const line = `stroke-width="${this.lineWidth}" stroke-linejoin="${this.lineJoin}"${dashes}`;
    this.add(this.path, `fill="none" ${paint("stroke", this.strokeStyle)} ${line}`);
  }

  fillRect(x, y, width, height) {
    this.apart(() => {
      this.rect(x, y, width, height);
      this.fill();
    });
  }

  strokeRect(x, y, width, height) {
    this.apart(() => {
      this.rect(x, y, width, height);
      this.stroke();
    });
  }

  /** Draws without touching the path that is being traced. */
  apart(draw) {
    const { path } = this;
    this.path = "";
    draw();
    this.path = path;
  }

  /** Shapes of one look that follow each other become one path: thousands of dots stay a small file. */
  add(path, look) {
    if (!path) return;
    const last = this.parts.at(-1);
    if (last?.look === look && this.globalAlpha === 1) last.path += path;
    else this.parts.push({ path, look: this.globalAlpha === 1 ? look : `${look} opacity="${this.globalAlpha}"` });
  }

  // Texts and pictures

  measureText(text) {
    const context = (SvgContext.ruler ??= newCanvas(1, 1).getContext("2d"));
    context.font = this.font;
    return context.measureText(text);
  }

  /** @param {number} [widest] - in which the text has to find room. */
  fillText(text, x, y, widest = Infinity) {
    const letters = Number(/([\d.]+)px/.exec(this.font)[1]);
    const at = this.point(x, y + letters * BASELINE[this.textBaseline]).split(",");
    const room = this.measureText(text).width > widest ? ` textLength="${short(widest)}" lengthAdjust="spacingAndGlyphs"` : "";
    const look = `text-anchor="${ANCHOR[this.textAlign]}" ${paint("fill", this.fillStyle)}${room}`;
    this.parts.push(
      `<text x="${at[0]}" y="${at[1]}" ${look} style="font: ${escapeXml(this.font.replaceAll('"', "'"))}">${escapeXml(text)}</text>`,
    );
  }

  /** Draws a canvas: in vectors where it was drawn so, else its pixels. */
  drawImage(canvas, x, y, width = canvas.width, height = canvas.height) {
    const [left, top] = this.point(x, y).split(",");
    const box = `x="${left}" y="${top}" width="${short(width)}" height="${short(height)}"`;
    const vector = VECTORS.get(canvas);
    if (vector) this.parts.push(`<svg ${box} viewBox="0 0 ${vector.width} ${vector.height}">${vector.content()}</svg>`);
    else this.parts.push(`<image ${box} preserveAspectRatio="none" href="${canvas.toDataURL()}"/>`);
  }

  content() {
    return this.parts.map((part) => (part.path ? `<path d="${part.path}" ${part.look}/>` : part)).join("");
  }

  toString() {
    const { width, height } = this;
    const open = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`;
    return `${open}${this.content()}</svg>`;
  }

  /** @returns {Blob} the file. */
  toBlob() {
    return new Blob([this.toString()], { type: "image/svg+xml" });
  }
}

/** Opacity has an attribute of its own, for not every program reads rgba(). */
function paint(attribute, style) {
  const [, color, alpha] = /^rgba\((.*), ([\d.]+)\)$/.exec(style) ?? [];
  if (color === undefined) return `${attribute}="${style}"`;
  return `${attribute}="rgb(${color})"${alpha === "1" ? "" : ` ${attribute.replace("-color", "")}-opacity="${alpha}"`}`;
}

function short(value) {
  return String(Number(value.toFixed(2)));
}

function escapeXml(text) {
  return text.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`);
}
