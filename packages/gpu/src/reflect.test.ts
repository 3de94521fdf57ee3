import { expect, it } from "vitest";
import { reflectBindings } from "./reflect.ts";

it("reflectBindings() lists bindings in order, with their access, and skips comments", () => {
  const code = `
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
// @group(0) @binding(9) var<storage, read> gone: array<f32>;
@group(0) @binding(0)  var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<uniform> params: vec4<u32>;`;
  expect(reflectBindings("a", code)).toEqual([
    { name: "x", binding: 0, type: "read-only-storage" },
    { name: "y", binding: 2, type: "storage" },
    { name: "params", binding: 5, type: "uniform" },
  ]);
});

it("reflectBindings() refuses another group and a number used twice", () => {
  expect(() => reflectBindings("a", "@group(1) @binding(0) var<storage, read> x: u32;")).toThrow("group 1");
  expect(() =>
    reflectBindings("a", "@group(0) @binding(0) var<storage, read> x: u32; @group(0) @binding(0) var<storage, read> y: u32;"),
  ).toThrow("twice");
});
