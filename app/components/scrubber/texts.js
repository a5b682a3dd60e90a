// How numbers and positions read.

/** @returns {string} the moment in words, for the slider's screen-reader text. */
function describe(moment) {
  const parts = [`t ${moment.s.toFixed(2)}`, moment.native];
  if (moment.lam !== null) parts.splice(1, 0, describeParameters(moment));
  return parts.join(", ");
}

/** @returns {string} where the parameters stand. */
function describeParameters({ cell, lam, learned }) {
  return cell ? `parameters λ ${lam.toFixed(2)} (learned ${learned.toFixed(2)})` : `λ ${lam.toFixed(2)}`;
}

/** Writes a text only if it has changed, which spares the browser a layout. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @returns {HTMLLIElement} a swatch, the curve's name, and a place for its value. */
function legendEntry({ name, color, role, dashed }) {
  const entry = document.createElement("li");
  entry.className = `${role} ${dashed ? "dashed" : ""}`;
  entry.style.setProperty("--curve", color);
  const label = Object.assign(document.createElement("span"), { textContent: name });
  // The space separates name and value where the entry is read as plain text.
  entry.append(label, " ", document.createElement("span"));
  return entry;
}

/** @returns {string} a number with three or four digits that mean something. */
function formatValue(value) {
  const size = Math.abs(value);
  return signed(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4));
}

/** σ reaches from thousandths to tens in one process. */
function formatSigma(sigma) {
  return sigma >= 10 ? sigma.toFixed(1) : sigma >= 0.01 ? sigma.toFixed(2) : sigma.toFixed(3);
}
