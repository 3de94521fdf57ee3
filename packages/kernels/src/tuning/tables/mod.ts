/**
 * Tables that come with Shoal, for devices that were measured. To add one, put what `shoal tune --json` printed into this folder and into the list. They serve where a
 * person has not tuned the own device.
 *
 * A table may leave operations out, and the measured times: the H100's has no products of single tokens, for which the whole models of `shoal bench --suite gpu` were faster with the
 * defaults (427 tokens/s of the 16B model, 410 with what was measured by itself).
 */
import type { TuningTable } from "../table.ts";
import nvidiaH100Dawn from "./nvidia-h100-80gb-hbm3-dawn.json" with { type: "json" };

/** As JSON files have them; each is checked by a test. */
export const SHIPPED_TABLES: readonly TuningTable[] = [{ ...nvidiaH100Dawn, format: 1, engine: "dawn" }];
