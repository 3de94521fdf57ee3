/** `shoal tune`: measures which variants of the kernels are fastest on this adapter, and keeps that for later runs. */
import type { TuneResult, TuningTable } from "@shoal/model/tuning";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exitCodes.ts";
import { formatDuration, formatTable } from "../format.ts";
import type { DeviceReport } from "../gpu/protocol.ts";
import { adapterLine, deviceRequest, withGpu } from "../gpu/session.ts";
import { DEVICE } from "../options.ts";
import { writeTable } from "../tuning/cache.ts";
import { driverVersion } from "../tuning/driver.ts";
import { VERSION } from "../version.ts";

export const tuneCommand: Command = {
  name: "tune",
  summary: "measure which variants of the kernels are fastest on this adapter, and keep that for later runs",
  arguments: "",
  maxWords: 0,
  options: ["quick", "json", ...DEVICE.filter((name) => name !== "tuning")],
  notes: [
    "Every variant is verified before it is timed, at the shapes of DeepSeek-V3 and V2-Lite (small ones on software adapters). It takes some minutes;",
    "--quick measures fewer shapes. The table lies in the user's cache directory, one for each adapter and engine; 'shoal doctor' names the file, and",
    "--tuning off runs without it. --json prints the table. Ctrl-C stops, and leaves an earlier table as it is.",
  ],
  run: runTune,
};

async function runTune({ values, terminal, interrupts }: Invocation): Promise<number> {
  const { signal } = interrupts;
  return withGpu(async (client) => {
    const device = await client.open({ ...deviceRequest(values), tuning: false }, signal);
    terminal.err(`Adapter: ${adapterLine(device)}\n`);
    const size = device.adapter.isSoftware ? "small" : "full";
    const begin = performance.now();
    const onCase = ({ done, total, name }: { readonly done: number; readonly total: number; readonly name: string }): void =>
      terminal.err(`Tune: ${done + 1} of ${total}, ${name}\n`);
    const result = await client.tune({ size, quick: values.quick === true }, onCase, signal);
    for (const { name, operation, variant, problem } of result.problems)
      terminal.err(`Left out: ${operation === null ? name : `${operation} as ${variant}`}: ${problem}\n`);
    const table = await tableOf(device, result);
    signal.throwIfAborted();
    await writeTable(device.tuning.file, table);
    terminal.err(`Tuned in ${formatDuration(performance.now() - begin)}; kept in ${device.tuning.file}\n`);
    terminal.out(values.json === true ? `${JSON.stringify(table, null, 2)}\n` : describe(result));
    return EXIT.ok;
  });
}

async function tableOf({ adapter, dialect }: DeviceReport, { winners }: TuneResult): Promise<TuningTable> {
  const { vendor, architecture, device, description } = adapter;
  return {
    format: 1,
    device: { vendor, architecture, device, description },
    engine: dialect.engine,
    driver: await driverVersion(vendor),
    date: new Date().toISOString(),
    version: VERSION,
    choices: Object.fromEntries(winners.flatMap(({ operation, variant }) => (variant === null ? [] : [[operation, variant]]))),
    times: Object.fromEntries(winners.map(({ operation, times }) => [operation, times])),
  };
}

function describe({ winners }: TuneResult): string {
  const rows = winners.map(({ operation, variant, speedup, times }) => [
    operation,
    variant ?? "by shape",
    speedup > 1 ? `${speedup.toFixed(2)} times as fast` : "as before",
    `${Object.keys(times).length}`,
    variant === null ? "" : (times[variant] ?? 0).toPrecision(3),
  ]);
  return formatTable([["operation", "variant", "than without", "tried", "ms"], ...rows]);
}
