/** `npm run screenshots`: pictures of the page, into `docs/images`. */
import { defineConfig } from "playwright/test";
import tests from "./playwright.config.ts";

export default defineConfig(tests, { testMatch: "screenshots.ts", outputDir: "test-results/screenshots" });
