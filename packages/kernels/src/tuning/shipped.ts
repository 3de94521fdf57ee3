/** Which of the tables that come with Shoal suits a device. */
import type { AdapterDescription, EngineName } from "@shoal/gpu";
import type { TuningTable } from "./table.ts";
import { SHIPPED_TABLES } from "./tables/mod.ts";

/**
 * The same vendor, architecture and name, whatever the driver's description says; of several, the latest. A browser runs Dawn's tables too, for most are Dawn.
 */
export function shippedTable(
  adapter: AdapterDescription,
  engine: EngineName,
  tables: readonly TuningTable[] = SHIPPED_TABLES,
): TuningTable | undefined {
  return tables
    .filter(({ device, engine: measured }) => {
      const same = device.vendor === adapter.vendor && device.architecture === adapter.architecture;
      return same && device.device === adapter.device && (measured === engine || (engine === "browser" && measured === "dawn"));
    })
    .toSorted((a, b) => Date.parse(b.date) - Date.parse(a.date))[0];
}
