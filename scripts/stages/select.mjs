/** The arguments of `npm test` and `pnpm ok`. */

/**
 * @param {string[]} args
 * @param {string[]} names of the stages
 * @returns {{ kind: "help" } | { kind: "list" } | { kind: "run", names: string[] } | { kind: "wrong", message: string }}
 */
export function parseStageArguments(args, names) {
  /** @type {string[] | undefined} */
  let only;
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    if (arg === "--help" || arg === "-h") return { kind: "help" };
    if (arg === "--list") return { kind: "list" };
    const list = arg === "--only" ? args[++index] : /^--only=(.*)$/.exec(arg)?.[1];
    if (list === undefined) {
      const message =
        arg === "--only" ? "--only: expected stages after it" : `unknown argument "${arg}", expected --only, --list or --help`;
      return { kind: "wrong", message };
    }
    only = [...(only ?? []), ...list.split(",").map((name) => name.trim())];
  }
  if (only === undefined) return { kind: "run", names };
  // "gpu" stands for "gpu:wgpu" and "gpu:dawn".
  const means = (/** @type {string} */ wanted) => names.filter((name) => name === wanted || name.startsWith(`${wanted}:`));
  const unknown = only.find((wanted) => means(wanted).length === 0);
  if (unknown !== undefined) return { kind: "wrong", message: `no stage "${unknown}", expected ${names.join(", ")}` };
  const chosen = new Set(only.flatMap(means));
  return { kind: "run", names: names.filter((name) => chosen.has(name)) };
}
