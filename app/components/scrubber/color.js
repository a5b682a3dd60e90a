// Colours: the theme's, the ones that carry meaning, and the two colour maps.

const THETA0 = [0, 114, 178];
const THETA1 = [213, 94, 0];
const LAMBDA = [204, 121, 167];

/** Curves of a chart: this model first, then the others in the order of the legend. */
const THIS_CURVE = "#009e73";
const OTHER_CURVES = ["#e69f00", "#56b4e9", "#8c8c8c", "#7e5bd0", "#4477aa", "#999933"];

// Anchors of the colour maps, evenly spaced; the middle of a diverging map is its zero.
const VIRIDIS = "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725".split(" ");
const DIVERGING_LIGHT = "053061 2166ac 4393c3 a6cfe5 ffffff fac8af d6604d b2182b 67001f".split(" ");
const DIVERGING_DARK = "c9e6ff 7cc0f5 3b86c4 1c4468 0c0d10 6b2a1c c4553a f79a76 ffe3d3".split(" ");

/** Blends two [r, g, b] colours; `t` = 0 gives the first. */
function mix(first, second, t) {
  return first.map((channel, i) => Math.round(channel + (second[i] - channel) * t));
}

function css([r, g, b], alpha = 1) {
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

/** The colour of the parameters at λ: a point on the path from θ0 to θ1. */
function parameterColor(lam) {
  return css(mix(THETA0, THETA1, lam));
}

function parseHex(text) {
  const digits = text.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

/**
 * Reads the colours and the font that Streamlit's theme gives to `element`.
 *
 * @returns {object} CSS colours `text`, `muted`, `faint`, `grid`, `background`, `primary`; `font`; whether it is `dark`.
 */
function readTheme(element) {
  const style = getComputedStyle(element);
  const variable = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  const background = parseColor(variable("--st-background-color", "#ffffff"));
  const text = parseColor(variable("--st-text-color", "#31333f"));
  const luminance = (0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2]) / 255;
  return {
    text: css(text),
    muted: css(mix(text, background, 0.25)),
    grid: css(mix(text, background, 0.86)),
    faint: css(mix(text, background, 0.5)),
    background: css(background),
    primary: variable("--st-primary-color", "#ff4b4b"),
    font: style.fontFamily,
    dark: luminance < 0.5,
  };
}

/** Lets the browser turn any CSS colour into [r, g, b]. */
function parseColor(text) {
  const context = (parseColor.context ??= newCanvas(1, 1).getContext("2d", { willReadFrequently: true }));
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** @returns {number[][]} 256 [r, g, b] colours evenly spaced along the anchors. */
function colorTable(anchors) {
  const colors = anchors.map(parseHex);
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (colors.length - 1);
    const low = Math.min(Math.floor(at), colors.length - 2);
    return mix(colors[low], colors[low + 1], at - low);
  });
}

/** The diverging map whose middle, zero, is the background's neutral: white on light, black on dark. */
function divergingTable(dark) {
  return colorTable(dark ? DIVERGING_DARK : DIVERGING_LIGHT);
}

/** Packs a colour the way a canvas keeps its pixels. */
function packPixel(r, g, b) {
  return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
}
