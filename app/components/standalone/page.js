// What a page without a server does for its view: unpack the blobs, mount it, and draw the figures that are only read.

/** @returns {Promise<Uint8Array>} what Python compressed. */
async function unpacked(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function showView({ blobs, data }) {
  for (const text of blobs) putBlob(decodeBlob(await unpacked(text)));
  mountView({ parentElement: document.getElementById("root"), data, setStateValue: () => {} });
}

/** Draws every figure of the page in the colours of its theme. */
async function showFigures(library) {
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await unpacked(library));
  document.head.append(script);
  for (const place of document.querySelectorAll(".plot")) {
    const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
    Plotly.newPlot(place, data, inTheme(layout), { responsive: true, displaylogo: false });
  }
}

function inTheme(layout) {
  const style = getComputedStyle(document.documentElement);
  const [text, lines] = ["--st-text-color", "--st-border-color"].map((name) => style.getPropertyValue(name).trim());
  const plain = { font: { color: text, family: "system-ui, sans-serif" }, paper_bgcolor: "transparent", plot_bgcolor: "transparent" };
  const axes = Object.entries(layout).filter(([name]) => /^[xy]axis\d*$/.test(name));
  const themed = axes.map(([name, axis]) => [name, { gridcolor: lines, zerolinecolor: lines, ...axis }]);
  return { ...layout, ...plain, ...Object.fromEntries(themed) };
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
