/**
 * Which package may import which. One entry a package: what is directly below it. What those stand on is allowed too.
 *
 *   safetensors <- checkpoint <- model;  shaders <- gpu <- kernels <- model <- engine <- api <- apps;  model <- cluster <- swarm
 *
 * tokenizer stands alone. A package that is not named here is an error: say where it belongs.
 */

/** @type {Record<string, string[]>} */
export const BELOW = {
  safetensors: [],
  checkpoint: ["safetensors"],
  tokenizer: [],
  "tiny-model": [],
  shaders: [],
  gpu: ["shaders"],
  kernels: ["gpu"],
  model: ["checkpoint", "kernels"],
  engine: ["model", "tokenizer"],
  cluster: ["model"],
  swarm: ["cluster"],
  eval: ["engine"],
  api: ["engine"],
  web: ["api", "swarm"],
  // Apps, and the end-to-end tests of apps.
  runner: ["api", "eval", "swarm", "tiny-model"],
  chat: ["api", "eval", "swarm", "tiny-model", "web"],
  e2e: ["runner", "chat"],
};

/** What a package's tests may use besides: the readers of the golden fixtures, and the model to run. */
export const FOR_TESTS = ["safetensors", "tokenizer", "tiny-model"];

/**
 * @param {string} name a package without its scope
 * @param {Record<string, string[]>} [below]
 * @returns {Set<string> | undefined} everything below it, undefined for a package without a place
 */
export function allowedImports(name, below = BELOW) {
  const direct = below[name];
  if (direct === undefined) return undefined;
  const allowed = new Set(direct);
  // A set visits what is added to it during the walk.
  for (const one of allowed) for (const next of below[one] ?? []) allowed.add(next);
  return allowed;
}
