// The outline: layers folded into the modules they belong to, as rows from top to bottom.

/** Beyond this many layers the outline opens folded. */
const FOLDED_BEYOND = 80;

/**
 * @typedef {object} Node
 * @property {string} path - module path; names the node.
 * @property {string} label - what is left of the path below its parent.
 * @property {number} level - 0 for a stage.
 * @property {number | null} layer - index of the layer, or null for a group.
 * @property {number[]} layers - indices of all layers in it.
 * @property {Node[]} children
 */

class Outline {
  /** @param {string[]} names of the layers in depth order. @param {string[]} stages of each. */
  constructor(names, stages) {
    this.roots = [];
    const byStage = new Map();
    names.forEach((name, layer) => {
      if (!byStage.has(stages[layer])) byStage.set(stages[layer], []);
      byStage.get(stages[layer]).push({ layer, name, parts: name.split(".") });
    });
    for (const [stage, members] of byStage) this.roots.push(buildNode(stage, stage.split(".").length, members, 0, ""));
    this.folded = new Set();
    if (names.length > FOLDED_BEYOND) for (const node of this.roots) this.folded.add(node.path);
  }

  /** @returns {Node[]} what is to be seen, from top to bottom. */
  rows() {
    const visible = [];
    const visit = (node) => {
      visible.push(node);
      if (!this.folded.has(node.path)) node.children.forEach(visit);
    };
    this.roots.forEach(visit);
    return visible;
  }

  toggle(node) {
    if (!this.folded.delete(node.path)) this.folded.add(node.path);
  }

  /** Unfolds what hides a layer. */
  reveal(layer) {
    const visit = (node) => {
      if (node.layer !== null || !node.layers.includes(layer)) return;
      this.folded.delete(node.path);
      node.children.forEach(visit);
    };
    this.roots.forEach(visit);
  }

  foldAll(isFolded) {
    const visit = (node) => {
      if (node.layer !== null) return;
      if (isFolded) this.folded.add(node.path);
      else this.folded.delete(node.path);
      node.children.forEach(visit);
    };
    this.roots.forEach(visit);
  }
}

/** @returns {Node} the module at `depth` parts of its members' paths; a module with one member is that member. */
function buildNode(path, depth, members, level, parent) {
  const label = parent && path.startsWith(`${parent}.`) ? path.slice(parent.length + 1) : path;
  const layers = members.map(({ layer }) => layer);
  if (members.length === 1) {
    const [{ layer, name }] = members;
    return { path: name, label: parent ? name.slice(parent.length + 1) || name : name, level, layer, layers, children: [] };
  }
  const below = new Map();
  for (const member of members) {
    const key = member.parts.slice(0, depth + 1).join(".");
    if (!below.has(key)) below.set(key, []);
    below.get(key).push(member);
  }
  // A module that only wraps another one does not deserve a row.
  if (below.size === 1) {
    const [[key, all]] = below;
    if (key !== path) return { ...buildNode(key, depth + 1, all, level, parent) };
  }
  const children = [...below].map(([key, some]) => buildNode(key, depth + 1, some, level + 1, path));
  return { path: `${path}/`, label, level, layer: null, layers, children };
}
