// Decoded sweeps and pads of this page, shared by the store (which puts) and the view (which gets).

const BLOB_EVENT = "dpi-scrubber-blob";

/** @returns {number} how many are kept; a page without a server, which holds all of them anyway, keeps all. */
function mostBlobs() {
  return globalThis.dpiMostBlobs ?? 8;
}

/** @returns {Map<string, object>} decoded blobs by content hash, the least recently used first. */
function blobMap() {
  return (globalThis.dpiScrubberBlobs ??= new Map());
}

/** Keeps a decoded blob, drops the oldest beyond the bound, and tells every view. */
function putBlob(blob) {
  const blobs = blobMap();
  blobs.delete(blob.hash);
  blobs.set(blob.hash, blob);
  for (const hash of [...blobs.keys()].slice(0, -mostBlobs())) blobs.delete(hash);
  globalThis.dispatchEvent(new CustomEvent(BLOB_EVENT, { detail: blob.hash }));
}

/** @returns {object | null} the blob of that hash if it has arrived. */
function getBlob(hash) {
  const blobs = blobMap();
  const blob = blobs.get(hash);
  if (!blob) return null;
  blobs.delete(hash);
  blobs.set(hash, blob);
  return blob;
}
