// What a page without a server does for the figures that are only read: draw them in the colours of its theme.

/** Draws every figure of the page; those that are folded away when they are unfolded, for only then they have a width. */
async function showFigures(library) {
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await unpacked(library));
  document.head.append(script);
  for (const place of document.querySelectorAll(".plot")) {
    const folded = place.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", () => draw(place), { once: true });
    else draw(place);
  }
}

function draw(place) {
  const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
  // Where nothing hovers Plotly would show its buttons for good, over the figure.
  const buttons = matchMedia("(hover: none)").matches ? { displayModeBar: false } : {};
  Plotly.newPlot(place, data, inTheme(layout), { responsive: true, displaylogo: false, ...buttons });
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
