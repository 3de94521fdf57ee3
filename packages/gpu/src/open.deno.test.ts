import { describe, expect, it } from "vitest";
import { adapterNamesIn } from "./open.deno.ts";

describe("adapterNamesIn()", () => {
  it("finds each name once in what Dawn's addon says, and nothing in other messages", () => {
    const message =
      "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'SwiftShader Device (Subzero)'\n" +
      " * backend: 'vulkan', name: 'Somebody's GPU'\n * backend: 'vulkan', name: 'Somebody's GPU'\n";
    expect(adapterNamesIn(message)).toEqual(["SwiftShader Device (Subzero)", "Somebody's GPU"]);
    expect(adapterNamesIn("the addon did not start: name: 'x'")).toEqual([]);
  });
});
