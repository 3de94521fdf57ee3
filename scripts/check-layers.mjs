/**
 * Checks that imports point one way (layers/order.mjs has the order) and in no circle, and that what is imported is declared.
 *
 *   node scripts/check-layers.mjs [ROOT]
 */
import { checkLayers } from "./layers/check.mjs";
import { readWorkspace } from "./layers/workspace-graph.mjs";
import { root } from "./setup/paths.mjs";

const workspace = readWorkspace(process.argv[2] ?? root);
const faults = checkLayers(workspace);
for (const fault of faults) process.stdout.write(`${fault}\n`);
process.stdout.write(`${workspace.packages.length} packages, ${workspace.modules.length} modules, ${faults.length} faults\n`);
process.exitCode = faults.length === 0 ? 0 : 1;
