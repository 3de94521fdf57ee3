/** tokenizer.json's `normalizer`: none, a Unicode normal form, or a Sequence of them. */
import { asArray, asObject, at, fail, type Place } from "./json.ts";

export type Normalize = (text: string) => string;

const maxSteps = 16;

export function parseNormalizer(value: unknown, place: Place): Normalize {
  const forms: ("NFC" | "NFD" | "NFKC" | "NFKD")[] = [];
  const parseStep = (step: unknown, place: Place): void => {
    const object = asObject(step, place);
    const type = object["type"];
    if (type === "Sequence") {
      const listPlace = at(place, "normalizers");
      asArray(object["normalizers"], maxSteps, listPlace).forEach((inner, i) => parseStep(inner, at(listPlace, i)));
    } else if (type === "NFC" || type === "NFD" || type === "NFKC" || type === "NFKD") {
      if (forms.length >= maxSteps) fail(place, step, `at most ${maxSteps} steps`);
      forms.push(type);
    } else {
      fail(at(place, "type"), type, '"Sequence", "NFC", "NFD", "NFKC" or "NFKD"');
    }
  };
  if (value !== null && value !== undefined) parseStep(value, place);
  return (text) => forms.reduce((current, form) => current.normalize(form), text);
}
