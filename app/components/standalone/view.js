// What a page without a server does for a view: unpack its blobs and mount it where it stands.

async function showView({ place, blobs, data }) {
  globalThis.dpiMostBlobs = Infinity;
  for (const text of blobs) putBlob(decodeBlob(await unpacked(text)));
  mountView({ parentElement: document.getElementById(place), data, setStateValue: () => {} });
}
