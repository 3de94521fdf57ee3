import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/*/{src,test}/**/*.test.ts", "apps/*/{src,test}/**/*.test.ts", "scripts/**/*.test.ts"],
    exclude: ["**/node_modules/**", "**/*.{gpu,wgpu,dawn}.test.ts", "**/*.net.test.ts"],
    testTimeout: 60_000,
  },
});
