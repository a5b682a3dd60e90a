// Weights and activations as pictures: tiles in rows and columns, zero in the middle of the colours.

/**
 * Where each pixel of a picture of tiles finds its number.
 *
 * @param {{rows: number, columns: number, height: number, width: number, count: number}} tiles
 * @returns {{width: number, height: number, source: Int32Array}} -1 between tiles and where there is none.
 */
function tileLayout({ rows, columns, height, width, count }) {
  const gap = height * width > 1 ? 1 : 0;
  const [across, down] = [columns * (width + gap) - gap, rows * (height + gap) - gap];
  const source = new Int32Array(across * down).fill(-1);
  for (let tile = 0; tile < count; tile++) {
    const [top, left] = [Math.floor(tile / columns) * (height + gap), (tile % columns) * (width + gap)];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) source[(top + y) * across + left + x] = (tile * height + y) * width + x;
    }
  }
  return { width: across, height: down, source };
}

/** A canvas that shows one array as tiles. */
class TilePicture {
  constructor(surface) {
    this.surface = surface;
  }

  setTiles(tiles) {
    this.layout = tileLayout(tiles);
    this.buffer = newCanvas(this.layout.width, this.layout.height);
    this.image = new ImageData(this.layout.width, this.layout.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  setTheme(theme) {
    this.colors = Uint32Array.from(divergingTable(theme.dark), ([r, g, b]) => packPixel(r, g, b));
  }

  /** @param {(i: number) => number} valueAt each number. @param {number} reach - of full colour on both sides of zero. */
  draw(valueAt, reach) {
    const { source } = this.layout;
    for (let p = 0; p < source.length; p++) {
      const i = source[p];
      this.pixels[p] = i < 0 ? 0 : this.colors[Math.round((clamp(valueAt(i) / reach, -1, 1) + 1) * 127.5)];
    }
    this.buffer.getContext("2d").putImageData(this.image, 0, 0);
    this.paint();
  }

  paint() {
    const { surface, layout } = this;
    const scale = Math.min(surface.width / layout.width, surface.height / layout.height);
    const [width, height] = [layout.width * scale, layout.height * scale];
    surface.clear();
    surface.context.imageSmoothingEnabled = scale < 1;
    surface.context.drawImage(this.buffer, 0, 0, width, height);
  }
}

/** @returns {(i: number) => number} θ(s) = (1 − λ)θ0 + λθ1, number by number. */
function blend(theta0, theta1, lam) {
  if (!theta1) return (i) => theta0[i];
  return (i) => theta0[i] + lam * (theta1[i] - theta0[i]);
}
