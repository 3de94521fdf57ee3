import { describe, expect, it } from "vitest";
import { assembleShader } from "./assemble.ts";

const dialect = { subgroups: "none", f16: false } as const;
const sources = new Map([
  ["a.wgsl", '#include "lib.wgsl"\n#include "lib.wgsl"\n#if NORM\nnormed\n#if KIND == fp8\nnormed fp8\n#endif\n#else\nplain\n#endif'],
  ["lib.wgsl", "library"],
  ["open.wgsl", "#if NORM"],
  ["stray.wgsl", "#else"],
  ["unknown.wgsl", "#define X"],
  ["lost.wgsl", '#include "nowhere.wgsl"'],
  ["unroll.wgsl", "#unroll r < 2 * ROWS\n#if NORM\nnorm(r);\n#endif\n#unroll k < 2\nf(r, k);\n#endunroll\n#endunroll\nend"],
  ["endless.wgsl", "#unroll r < ROWS\n#unroll k < 2\n#endunroll"],
  ["ended.wgsl", "#endunroll"],
  ["boundless.wgsl", "#unroll r ROWS\n#endunroll"],
  ["sub.wgsl", "#if SUBGROUPS\nsubgroups\n#endif"],
]);
const body = (path: string, constants: Parameters<typeof assembleShader>[2], on: Parameters<typeof assembleShader>[3] = dialect): string =>
  assembleShader(sources, path, constants, on);

describe("assembleShader()", () => {
  it("includes a file once and keeps the branch that holds", () => {
    const lines = body("a.wgsl", { NORM: true, KIND: "fp8" }).split("\n");
    expect(lines.filter((line) => line === "library")).toHaveLength(1);
    expect(lines.slice(-2)).toEqual(["normed", "normed fp8"]);
    expect(body("a.wgsl", { NORM: false, KIND: "fp8" })).toMatch(/plain$/);
    expect(body("a.wgsl", { NORM: true, KIND: "bf16" })).toMatch(/normed$/);
  });

  it("repeats the lines of an #unroll as blocks with a constant", () => {
    const text = body("unroll.wgsl", { ROWS: 1, NORM: true }).split("\n").slice(4).join(" ");
    const inner = (r: string): string => `norm(r); { const k: u32 = 0u; f(r, k); } { const k: u32 = 1u; f(r, k); } }${r}`;
    expect(text).toBe(`{ const r: u32 = 0u; ${inner(" { const r: u32 = 1u;")} ${inner(" end")}`);
    expect(body("unroll.wgsl", { ROWS: 0, NORM: false })).toMatch(/false;\nend$/);
  });

  it("declares constants by their type", () => {
    const text = body("lib.wgsl", { K: 7, FLAG: true, EPSILON: { f32: 1e-6 }, ONE: { f32: 1 }, KIND: "fp8" });
    expect(text).toContain("const K: u32 = 7u;");
    expect(text).toContain("const FLAG: bool = true;");
    expect(text).toContain("const ONE: f32 = 1.0;");
    expect(text).toMatch(/const EPSILON: f32 = 9\.99\d+e-7;/);
    expect(text).not.toContain("KIND");
  });

  it("enables what subgroup matrices take, where the hardware's are asked for", () => {
    const on = { subgroups: "directive", f16: false } as const;
    const text = body("lib.wgsl", { SUBGROUP_MATRIX: "hardware" }, on);
    for (const name of ["f16", "chromium_experimental_subgroup_matrix"]) expect(text).toContain(`enable ${name};`);
    expect(text.indexOf("diagnostic(off, chromium.subgroup_matrix_uniformity);")).toBeLessThan(text.indexOf("const"));
    expect(body("lib.wgsl", { SUBGROUP_MATRIX: "emulated" }, on)).not.toMatch(/f16|matrix/);
  });

  it("writes the subgroups directive for engines that demand it only", () => {
    expect(body("sub.wgsl", {}, { subgroups: "directive", f16: true })).toMatch(/^enable subgroups;\nenable f16;[^]*subgroups$/);
    expect(body("sub.wgsl", {}, { subgroups: "implicit", f16: false })).not.toContain("enable");
    expect(body("sub.wgsl", {}, dialect)).not.toMatch(/subgroups$/);
    expect(body("sub.wgsl", { SUBGROUPS: false }, { subgroups: "directive", f16: false })).not.toContain("enable");
  });

  it.each([
    ["open.wgsl", {}, "#if without #endif"],
    ["stray.wgsl", {}, "#else without #if"],
    ["unknown.wgsl", {}, "unknown directive #define"],
    ["lost.wgsl", {}, "file 'nowhere.wgsl' does not exist"],
    ["endless.wgsl", { ROWS: 2 }, "endless.wgsl:1: #unroll without #endunroll"],
    ["ended.wgsl", {}, "#endunroll without #unroll"],
    ["boundless.wgsl", { ROWS: 2 }, "malformed #unroll r ROWS"],
    ["unroll.wgsl", { ROWS: true }, "ROWS in '2 * ROWS' is no integer constant"],
    ["lib.wgsl", { K: -1 }, "constant K is -1, expected an integer of 32 bits"],
    ["lib.wgsl", { K: 0.5 }, "constant K is 0.5"],
    ["lib.wgsl", { K: { f32: Number.NaN } }, "constant K is NaN, expected a finite number"],
  ] as const)("refuses %s with %j: %s", (path, constants, message) => {
    expect(() => body(path, constants)).toThrow(message);
  });
});
