import { describe, expect, it } from "vitest";
import { adaptersIn, refusal } from "./open.deno.ts";

describe("adaptersIn()", () => {
  it("finds each name in what Dawn's addon says, how many have it, and nothing in other messages", () => {
    const message =
      "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'SwiftShader Device (Subzero)'\n" +
      " * backend: 'vulkan', name: 'Somebody's GPU'\n * backend: 'vulkan', name: 'Somebody's GPU'\n" +
      " * backend: 'openGLES', name: 'SwiftShader Device (Subzero)'\n";
    expect(adaptersIn(message)).toEqual([
      { name: "SwiftShader Device (Subzero)", count: 1 },
      { name: "Somebody's GPU", count: 2 },
    ]);
    expect(adaptersIn("the addon did not start: name: 'x'")).toEqual([]);
  });
});

describe("refusal()", () => {
  it("names what was asked for and what there is, or passes on what Dawn says", () => {
    const message = "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'llvmpipe (LLVM 15)'\n";
    expect(refusal(new Error(message), "nope")).toBe("none is called 'nope', expected part of one of these names: 'llvmpipe (LLVM 15)'");
    expect(refusal(new Error("no driver"), "nope")).toMatch(/^no driver; /);
    expect(refusal(new Error(message), undefined)).toContain("no suitable backends found");
  });
});
