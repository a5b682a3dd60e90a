// The byte format of payload.py: header length, JSON header, raw arrays.

const ARRAY_TYPES = { uint8: Uint8Array, int16: Int16Array, float32: Float32Array };

/**
 * Decodes what `pack` returned.
 *
 * @param {Uint8Array} bytes
 * @returns {object} the header, with `arrays` replaced by a map from name to {values, shape, scale, zero},
 *   where `values[i] * scale + zero` is the number in its own unit.
 */
function decodeBlob(bytes) {
  const headerLength = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength)));
  // A copy starts at offset 0, which the alignment of typed arrays needs, and lets go of the network buffer.
  const body = bytes.slice(4 + headerLength).buffer;
  const arrays = Object.fromEntries(header.arrays.map((spec) => [spec.name, decodeArray(body, spec)]));
  return { ...header, arrays };
}

function decodeArray(body, { dtype, shape, offset, scale, zero }) {
  const length = shape.reduce((product, size) => product * size, 1);
  return { values: new ARRAY_TYPES[dtype](body, offset, length), shape, scale, zero };
}
