/**
 * The bindings that a WGSL text declares in group 0, so that TypeScript binds buffers by their WGSL names and the two cannot drift.
 */
import { ShaderError } from "./errors.ts";

export interface BindingInfo {
  readonly name: string;
  readonly binding: number;
  readonly type: "read-only-storage" | "storage" | "uniform";
}

const DECLARATION = /@group\((\d+)\)\s*@binding\((\d+)\)\s*var<([^>]+)>\s*(\w+)\s*:/g;

/** @throws ShaderError if a binding lies outside group 0, or two share a number. */
export function reflectBindings(shader: string, code: string): readonly BindingInfo[] {
  const found: BindingInfo[] = [];
  for (const [, group, binding, space = "", name = ""] of code.replace(/\/\/.*$/gm, "").matchAll(DECLARATION)) {
    if (group !== "0") throw new ShaderError(shader, `binding '${name}' is in group ${group}, expected 0`);
    const type = /read_write/.test(space) ? "storage" : /storage/.test(space) ? "read-only-storage" : "uniform";
    const number = Number(binding);
    if (found.some((other) => other.binding === number)) throw new ShaderError(shader, `binding ${number} is declared twice`);
    found.push({ name, binding: number, type });
  }
  return found.sort((a, b) => a.binding - b.binding);
}
