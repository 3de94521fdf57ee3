/**
 * From a WGSL file to the text that one engine accepts.
 *
 * The only preprocessing that the shaders use, a line at a time:
 *
 *     #include "lib/fp8.wgsl"      the file's text, once
 *     #if NAME / #if !NAME / #if NAME == VALUE  ...  #else  ...  #endif
 *     #unroll i < 2 * NAME  ...  #endunroll
 *
 * The lines of an #unroll come out once for each i, as a block in which i is a constant. Where a loop would index arrays of a function, that keeps them in registers:
 * compilers unroll such loops by themselves only where they see how often they run, and naga hides it behind a counter of its own.
 *
 * Names are the constants passed in, plus `SUBGROUPS` and `F16`, which the dialect decides. Every constant is also declared in WGSL:
 * a boolean as `bool`, an integer as `u32`, `{ f32: x }` as `f32`; strings steer `#if` only, but SUBGROUP_MATRIX = "hardware" also enables what it takes. Constants rather than uniforms: shapes never change while a
 * model is loaded, and compilers unroll loops whose bounds they know.
 */
import type { Dialect } from "./dialect.ts";
import { ShaderError } from "./errors.ts";

export type ShaderConstant = number | boolean | string | { readonly f32: number };
export type ShaderConstants = Readonly<Record<string, ShaderConstant>>;

/** @throws ShaderError if a file is missing, a directive is malformed, or a constant cannot be written in WGSL. */
export function assembleShader(
  sources: ReadonlyMap<string, string>,
  path: string,
  constants: ShaderConstants,
  dialect: Pick<Dialect, "subgroups" | "f16">,
): string {
  const flags: ShaderConstants = {
    ...constants,
    SUBGROUPS: dialect.subgroups !== "none",
    F16: dialect.f16,
    ...pick(constants, ["SUBGROUPS", "F16"]),
  };
  const body = expand({ sources, path, flags, root: path, included: new Set() }).join("\n");
  const enables: string[] = [];
  if (flags["SUBGROUPS"] === true && dialect.subgroups === "directive") enables.push("enable subgroups;");
  const matrices = flags["SUBGROUP_MATRIX"] === "hardware";
  if (flags["F16"] === true || matrices) enables.push("enable f16;");
  // Fragments are the subgroup's: that their places are the same for all of it is the shaders' business, and more than the analysis can see.
  if (matrices) enables.push("enable chromium_experimental_subgroup_matrix;", "diagnostic(off, chromium.subgroup_matrix_uniformity);");
  const declared = Object.entries(flags).flatMap(([name, value]) => declare(path, name, value));
  return [...enables, ...declared, body].join("\n");
}

function pick(constants: ShaderConstants, names: readonly string[]): ShaderConstants {
  return Object.fromEntries(Object.entries(constants).filter(([name]) => names.includes(name)));
}

function declare(path: string, name: string, value: ShaderConstant): string[] {
  if (typeof value === "string") return [];
  if (typeof value === "boolean") return [`const ${name}: bool = ${value};`];
  if (typeof value === "number") {
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff)
      throw new ShaderError(path, `constant ${name} is ${value}, expected an integer of 32 bits`);
    return [`const ${name}: u32 = ${value}u;`];
  }
  if (!Number.isFinite(value.f32)) throw new ShaderError(path, `constant ${name} is ${value.f32}, expected a finite number`);
  const text = String(Math.fround(value.f32));
  return [`const ${name}: f32 = ${/[.e]/.test(text) ? text : `${text}.0`};`];
}

interface Line {
  readonly text: string;
  /** Counted from 1. */
  readonly number: number;
}

/** A file on its way to its text. */
interface Expansion {
  readonly sources: ReadonlyMap<string, string>;
  readonly path: string;
  readonly flags: ShaderConstants;
  /** The shader that is being assembled, for errors. */
  readonly root: string;
  readonly included: Set<string>;
}

function expand(expansion: Expansion): string[] {
  const { sources, path, root, included } = expansion;
  const text = sources.get(path);
  if (text === undefined) throw new ShaderError(root, `file '${path}' does not exist`);
  if (included.has(path)) return [];
  included.add(path);
  return expandLines(
    expansion,
    text.split("\n").map((line, index) => ({ text: line, number: index + 1 })),
  );
}

function expandLines(expansion: Expansion, lines: readonly Line[]): string[] {
  const { path, flags, root } = expansion;
  const out: string[] = [];
  const conditions: { active: boolean; parent: boolean }[] = [];
  const active = (): boolean => conditions.at(-1)?.active ?? true;
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    if (!line) break;
    const directive = /^\s*#(\w+)\s*(.*?)\s*$/.exec(line.text);
    if (!directive) {
      if (active()) out.push(line.text);
      continue;
    }
    const [, word = "", rest = ""] = directive;
    const fail = (why: string): never => {
      throw new ShaderError(root, `${path}:${line.number}: ${why}`);
    };
    const top = conditions.at(-1);
    switch (word) {
      case "include": {
        const file = /^"([^"]+)"$/.exec(rest)?.[1] ?? fail(`malformed #include ${rest}`);
        if (active()) out.push(...expand({ ...expansion, path: file }));
        break;
      }
      case "if":
        conditions.push({ parent: active(), active: active() && evaluate(rest, flags, fail) });
        break;
      case "else":
        if (!top) fail("#else without #if");
        else top.active = top.parent && !top.active;
        break;
      case "endif":
        if (!conditions.pop()) fail("#endif without #if");
        break;
      case "unroll": {
        const end = endOfUnroll(lines, at) ?? fail("#unroll without #endunroll");
        const [, name = "", bound = ""] = /^(\w+)\s*<\s*(.+)$/.exec(rest) ?? fail(`malformed #unroll ${rest}`);
        const body = lines.slice(at + 1, end);
        // What is left out may name constants that the shader does not have.
        const count = active() ? product(bound, flags, fail) : 0;
        for (let i = 0; i < count; i++) out.push(`{ const ${name}: u32 = ${i}u;`, ...expandLines(expansion, body), "}");
        at = end;
        break;
      }
      case "endunroll":
        fail("#endunroll without #unroll");
        break;
      default:
        fail(`unknown directive #${word}`);
    }
  }
  if (conditions.length > 0) throw new ShaderError(root, `${path}: #if without #endif`);
  return out;
}

function endOfUnroll(lines: readonly Line[], start: number): number | undefined {
  let depth = 0;
  for (let at = start; at < lines.length; at++) {
    const word = /^\s*#(\w+)/.exec(lines[at]?.text ?? "")?.[1];
    if (word === "unroll") depth++;
    if (word === "endunroll" && --depth === 0) return at;
  }
  return undefined;
}

/** Of integers and names of constants, such as "2 * ROWS". */
function product(expression: string, flags: ShaderConstants, fail: (why: string) => never): number {
  return expression.split("*").reduce((result, factor) => {
    const name = factor.trim();
    const value = /^\d+$/.test(name) ? Number(name) : flags[name];
    return typeof value === "number" ? result * value : fail(`${name} in '${expression}' is no integer constant`);
  }, 1);
}

function evaluate(expression: string, flags: ShaderConstants, fail: (why: string) => never): boolean {
  const match = /^(!?)(\w+)(?:\s*==\s*(\w+))?$/.exec(expression);
  if (!match) return fail(`malformed #if ${expression}`);
  const [, not, name = "", wanted] = match;
  const value = flags[name];
  const holds =
    wanted === undefined
      ? value !== undefined && value !== false && value !== 0
      : (typeof value === "object" ? value.f32 : value)?.toString() === wanted;
  return not ? !holds : holds;
}
