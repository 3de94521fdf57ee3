/** Cycles in a directed graph: one shown for each group of nodes that reach each other (Tarjan's strongly connected components). */

/**
 * @param {Map<string, string[]>} graph node to its successors
 * @returns {string[][]} each a walk that ends where it began
 */
export function findCycles(graph) {
  return components(graph).flatMap((group) => {
    const first = [...group].sort()[0] ?? "";
    if (group.length === 1 && !(graph.get(first) ?? []).includes(first)) return [];
    return [shortestLoop(graph, first, new Set(group))];
  });
}

/**
 * Breadth first, so that a person gets the shortest loop through the node.
 * @param {Map<string, string[]>} graph
 * @param {string} start
 * @param {Set<string>} within
 * @returns {string[]}
 */
function shortestLoop(graph, start, within) {
  /** @type {string[][]} */
  const walks = [[start]];
  const seen = new Set();
  for (const walk of walks) {
    for (const next of graph.get(walk.at(-1) ?? "") ?? []) {
      if (next === start) return [...walk, start];
      if (!within.has(next) || seen.has(next)) continue;
      seen.add(next);
      walks.push([...walk, next]);
    }
  }
  return [start];
}

/**
 * @param {Map<string, string[]>} graph
 * @returns {string[][]}
 */
function components(graph) {
  /** @type {Map<string, { index: number, low: number, open: boolean }>} */
  const marks = new Map();
  /** @type {string[]} */
  const stack = [];
  /** @type {string[][]} */
  const found = [];
  /** @param {string} node */
  const visit = (node) => {
    const mark = { index: marks.size, low: marks.size, open: true };
    marks.set(node, mark);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      const known = marks.get(next);
      if (known === undefined) mark.low = Math.min(mark.low, visit(next));
      else if (known.open) mark.low = Math.min(mark.low, known.index);
    }
    if (mark.low === mark.index) {
      const group = stack.splice(stack.indexOf(node));
      for (const member of group) {
        const memberMark = marks.get(member);
        if (memberMark !== undefined) memberMark.open = false;
      }
      found.push(group);
    }
    return mark.low;
  };
  for (const node of graph.keys()) if (!marks.has(node)) visit(node);
  return found;
}
