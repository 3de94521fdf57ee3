import { defineConfig } from "playwright/test";

/** WebGPU on a software adapter counts as unsafe; the rest keeps the browser from fetching anything of its own. */
export const CHROMIUM_FLAGS = [
  "--enable-unsafe-webgpu",
  // SwiftShader sets workgroup memory to zero by code as long as the memory, which takes up to ten seconds to compile; Dawn can have a shader do it by a loop instead.
  "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const CHROMIUM_PATH = process.env["CHROMIUM_PATH"] ?? "/usr/bin/chromium";

export default defineConfig({
  testDir: ".",
  outputDir: "test-results",
  reporter: "list",
  // They share a GPU, or two CPU cores that stand in for one.
  workers: 1,
  timeout: 600_000,
  // How long something takes is no test's matter where a machine does much else: what is wrong is so after a minute too.
  expect: { timeout: 60_000 },
  use: {
    browserName: "chromium",
    launchOptions: { executablePath: CHROMIUM_PATH, args: CHROMIUM_FLAGS },
  },
});
