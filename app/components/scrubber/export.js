// Downloads: what is shown as one picture, and the curves as a table.

const EXPORT = { scale: 2, fineness: 3, margin: 20, gap: 16, panel: 240, chart: { width: 325, height: 250 }, line: 16 };

/**
 * @typedef {object} Cell
 * @property {string} title
 * @property {HTMLCanvasElement} canvas
 * @property {string} caption
 * @property {number} width - of the cell, in the picture's pixels.
 * @property {number} height - of the canvas in it.
 */

/** @returns {Cell} a figure of the page with the texts around it. */
function figureCell(figure, width) {
  const canvas = figure.querySelector("canvas");
  const texts = (selector) => [...figure.querySelectorAll(selector)].map(plainText).filter(Boolean).join(" \u00b7 ");
  return {
    title: texts(".title, .value"),
    canvas,
    caption: texts(".legend li:not([hidden]), .scale:not([hidden]), figcaption"),
    width,
    height: (width * canvas.clientHeight) / canvas.clientWidth,
  };
}

/** @returns {string} what an element says on one line; x with the subscript s becomes x_s. */
function plainText(element) {
  const copy = element.cloneNode(true);
  for (const subscript of copy.querySelectorAll("sub")) {
    if (!/\d/.test(subscript.textContent)) subscript.prepend("_");
  }
  return copy.textContent.replace(/\s+/g, " ").trim();
}

/**
 * Composes rows of figures under one heading, in pixels.
 *
 * @param {{heading: string, rows: Cell[][], theme: object}} picture
 * @returns {HTMLCanvasElement}
 */
function composePicture(picture) {
  const [width, height] = pictureSize(picture);
  const canvas = newCanvas(Math.ceil(width * EXPORT.scale), Math.ceil(height * EXPORT.scale));
  const context = canvas.getContext("2d");
  context.scale(EXPORT.scale, EXPORT.scale);
  paintPicture(context, picture, [width, height]);
  return canvas;
}

/** @returns {SvgContext} the same in vectors. */
function composeVectors(picture) {
  const size = pictureSize(picture);
  const context = new SvgContext(...size);
  paintPicture(context, picture, size);
  return context;
}

/** @returns {number[]} width and height of a picture. */
function pictureSize({ rows, theme }) {
  const measure = newCanvas(1, 1).getContext("2d");
  const rowWidth = (row) => row.reduce((sum, cell) => sum + cell.width + EXPORT.gap, -EXPORT.gap);
  const width = Math.max(...rows.map(rowWidth)) + 2 * EXPORT.margin;
  return [width, rows.reduce((sum, row) => sum + rowHeight(measure, row, theme), 2 * EXPORT.margin + 2 * EXPORT.line)];
}

function paintPicture(context, { heading, rows, theme }, [width, height]) {
  context.fillStyle = theme.background;
  context.fillRect(0, 0, width, height);
  context.textBaseline = "top";
  context.fillStyle = theme.text;
  context.font = `600 16px ${theme.font}`;
  context.fillText(heading, EXPORT.margin, EXPORT.margin, width - 2 * EXPORT.margin);
  let top = EXPORT.margin + 2 * EXPORT.line;
  for (const row of rows) {
    drawRow(context, row, top, theme);
    top += rowHeight(context, row, theme);
  }
}

function drawRow(context, row, top, theme) {
  let left = EXPORT.margin;
  for (const cell of row) {
    context.fillStyle = theme.text;
    context.font = `600 13px ${theme.font}`;
    context.fillText(cell.title, left, top, cell.width);
    context.drawImage(cell.canvas, left, top + EXPORT.line + 4, cell.width, cell.height);
    context.fillStyle = theme.muted;
    wrapText(context, cell, theme).forEach((line, i) => {
      context.fillText(line, left, top + EXPORT.line + cell.height + 10 + i * EXPORT.line);
    });
    left += cell.width + EXPORT.gap;
  }
}

function rowHeight(context, row, theme) {
  const heights = row.map((cell) => cell.height + (2 + wrapText(context, cell, theme).length) * EXPORT.line);
  return Math.max(...heights) + EXPORT.gap;
}

/** Breaks a cell's caption into lines as wide as the cell, and leaves its font set. */
function wrapText(context, { caption, width }, theme) {
  context.font = `12px ${theme.font}`;
  const lines = [];
  for (const word of caption.split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** @returns {(string | number)[][]} one row for each value of each curve; λ(s) first. */
function curvesAsRows(sweep) {
  const { arrays } = sweep;
  const rows = [["chart", "series", "s", "value", "low", "high", "native"]];
  arrays.lam?.values.forEach((lam, k) =>
    rows.push(["lambda", "lambda", arrays.s.values[k], lam, "", "", sweep.native[k]]),
  );
  arrays["beside/lam"]?.values.forEach((lam, k) =>
    rows.push(["lambda", sweep.beside.name, arrays.s.values[k], lam, "", "", sweep.native[k]]),
  );
  for (const chart of sweep.charts) {
    for (const curve of chart.curves) rows.push(...curveRows(chart, curve, arrays));
  }
  return rows;
}

function curveRows(chart, curve, arrays) {
  const part = (name) => arrays[`${curve.arrays}/${name}`]?.values;
  const [s, y, low, high] = ["s", "y", "low", "high"].map(part);
  return Array.from(s, (at, i) => [chart.y_label, curve.name, at, y[i], low?.[i] ?? "", high?.[i] ?? "", ""]);
}

/** Saves rows of texts and numbers as a table; numbers that are not finite leave their fields empty. */
function downloadCsv(rows, name) {
  const text = rows.map((row) => row.map(csvField).join(",") + "\r\n").join("");
  // The mark at the start makes spreadsheets read UTF-8.
  download(new Blob([`\ufeff${text}`], { type: "text/csv;charset=utf-8" }), name);
}

function csvField(value) {
  const text = typeof value !== "number" ? value : Number.isFinite(value) ? String(Number(value.toPrecision(7))) : "";
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser reads the address after the click has returned.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
