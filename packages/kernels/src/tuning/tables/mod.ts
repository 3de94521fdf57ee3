/**
 * Tables that come with Shoal, for devices that were measured. To add one, put what `shoal tune --json` printed into this folder and into the list. They serve where a
 * person has not tuned the own device.
 */
import type { TuningTable } from "../table.ts";

/** As JSON files have them; each is checked by a test. */
export const SHIPPED_TABLES: readonly TuningTable[] = [];
