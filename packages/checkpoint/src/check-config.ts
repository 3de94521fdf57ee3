/**
 * What must hold between the fields of a config, whichever format it came from. The formats' parsers have checked each field alone;
 * `names` gives each field its name in that format, for messages.
 */
import type { ModelConfig } from "./config.ts";
import { ConfigError } from "./error.ts";

export type FieldNames = Readonly<
  Record<
    | "nLayers"
    | "nDenseLayers"
    | "qkRopeHeadDim"
    | "nRoutedExperts"
    | "nActivatedExperts"
    | "nExpertGroups"
    | "topkGroup"
    | "scoreFunc"
    | "topkMethod"
    | "betaSlow"
    | "maxPositionEmbeddings"
    | "bosTokenId"
    | "eosTokenIds",
    string
  >
>;

/** Checks and freezes. @throws {ConfigError} */
export function finishConfig(declared: ModelConfig, file: string, names: FieldNames): ModelConfig {
  // The greedy method chooses among all experts and never looks at groups: one group says so to everyone who does.
  const config = declared.topkMethod === "greedy" ? { ...declared, nExpertGroups: 1, topkGroup: 1 } : declared;
  const fail = (field: keyof FieldNames, actual: string, expected: string) => new ConfigError(file, names[field], `is ${actual}`, expected);

  if (config.qkRopeHeadDim % 2 !== 0) throw fail("qkRopeHeadDim", `${config.qkRopeHeadDim}`, "an even number: RoPE rotates pairs");
  if (config.nDenseLayers > config.nLayers) {
    throw fail("nDenseLayers", `${config.nDenseLayers}`, `at most ${names.nLayers} (${config.nLayers})`);
  }
  checkRouter(config, fail, names);
  const scaling = config.ropeScaling;
  if (scaling !== null && scaling.betaFast < scaling.betaSlow) {
    throw fail("betaSlow", `${scaling.betaSlow}`, `at most the fast one (${scaling.betaFast})`);
  }
  for (const [field, ids] of [["bosTokenId", [config.bosTokenId ?? 0]] as const, ["eosTokenIds", config.eosTokenIds] as const]) {
    const outside = ids.find((id) => id >= config.vocabSize);
    if (outside !== undefined) throw fail(field, `${outside}`, `below the vocabulary's size (${config.vocabSize})`);
  }
  return Object.freeze({
    ...config,
    ropeScaling: scaling === null ? null : Object.freeze({ ...scaling }),
    quantization: config.quantization === null ? null : Object.freeze({ ...config.quantization }),
    eosTokenIds: Object.freeze([...config.eosTokenIds]),
  });
}

function checkRouter(
  config: ModelConfig,
  fail: (field: keyof FieldNames, actual: string, expected: string) => ConfigError,
  names: FieldNames,
): void {
  const { nRoutedExperts, nExpertGroups, topkGroup, nActivatedExperts } = config;
  if (topkGroup > nExpertGroups) throw fail("topkGroup", `${topkGroup}`, `at most ${names.nExpertGroups} (${nExpertGroups})`);
  if (nRoutedExperts % nExpertGroups !== 0) {
    throw fail("nExpertGroups", `${nExpertGroups}`, `a divisor of ${names.nRoutedExperts} (${nRoutedExperts})`);
  }
  const groupSize = nRoutedExperts / nExpertGroups;
  const selectable = groupSize * topkGroup;
  if (nActivatedExperts > selectable) {
    const expected = `at most ${selectable}, the experts in the groups that a token may choose from`;
    throw fail("nActivatedExperts", `${nActivatedExperts}`, expected);
  }
  if (config.topkMethod === "noaux_tc" && config.scoreFunc !== "sigmoid") {
    throw fail("scoreFunc", `'${config.scoreFunc}'`, `'sigmoid' with ${names.topkMethod} 'noaux_tc'`);
  }
  if (config.topkMethod === "noaux_tc" && nExpertGroups > 1 && groupSize < 2) {
    throw fail("nExpertGroups", `${nExpertGroups}`, `groups of at least 2 experts: a group's score is the sum of its two best`);
  }
}
