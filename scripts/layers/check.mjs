/** The rules on a workspace's imports. */
import { findCycles } from "./cycles.mjs";
import { allowedImports, BELOW, FOR_TESTS } from "./order.mjs";

/**
 * @param {ReturnType<typeof import("./workspace-graph.mjs").readWorkspace>} workspace
 * @param {Record<string, string[]>} [below]
 * @returns {string[]} one line a fault
 */
export function checkLayers({ packages, modules }, below = BELOW) {
  const fileCycles = findCycles(new Map(modules.map((one) => [one.file, one.imports.flatMap((each) => each.targets)])));
  return [
    ...packages.flatMap((one) => checkPackage(one, below)),
    ...modules.flatMap(checkModule),
    ...fileCycles.map((cycle) => `Circular import: ${cycle.join(" -> ")}`),
  ];
}

/**
 * @param {import("./workspace-graph.mjs").Package} one
 * @param {Record<string, string[]>} below
 */
function checkPackage(one, below) {
  const allowed = allowedImports(one.name, below);
  if (allowed === undefined) {
    return [`${one.folder}: the package "${one.name}" has no place in the import order, expected an entry in scripts/layers/order.mjs`];
  }
  const fault = (/** @type {string} */ kind, /** @type {string} */ name) =>
    `${one.folder}/package.json: ${kind} has "${name}", which is not below "${one.name}": expected ${list([...allowed])}`;
  return [
    ...one.dependencies.filter((name) => !allowed.has(name)).map((name) => fault("dependencies", name)),
    ...one.devDependencies.filter((name) => !allowed.has(name) && !FOR_TESTS.includes(name)).map((name) => fault("devDependencies", name)),
  ];
}

/** @param {import("./workspace-graph.mjs").Module} module */
function checkModule({ file, owner, isTest, imports }) {
  return imports.flatMap(({ specifier, targets, toPackage }) => {
    if (toPackage === undefined) {
      const outside = targets.some((target) => !target.startsWith(`${owner.folder}/`));
      // A package's tests may read files that no package owns, such as fixtures.
      return outside && !isTest ? [`${file}: "${specifier}" reaches out of its package, expected an import by package name`] : [];
    }
    // A package may name itself.
    const declared = [owner.name, ...owner.dependencies, ...(isTest ? owner.devDependencies : [])];
    if (!declared.includes(toPackage)) {
      const where = isTest ? "dependencies or devDependencies" : "dependencies";
      return [`${file}: "${specifier}" is not declared, expected it among the ${where} of ${owner.folder}/package.json`];
    }
    return targets.length === 0 ? [`${file}: "${specifier}" is not exported by its package`] : [];
  });
}

/** @param {string[]} names */
function list(names) {
  return names.length === 0 ? "nothing" : names.map((name) => `"${name}"`).join(", ");
}
