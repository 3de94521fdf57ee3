/** From the options to a loaded model: the adapter is named first, then loading is shown. */
import type { LoadProgress, StageDescription } from "@shoal/model";
import type { Invocation } from "../command.ts";
import { formatBytes, formatDuration } from "../format.ts";
import type { OpenModel } from "../model/openModel.ts";
import type { Values } from "../options.ts";
import { Progress } from "../progress.ts";
import { tuningLine } from "../tuning/choices.ts";
import { GpuClient } from "./client.ts";
import type { DeviceReport, DeviceRequest, FleetWish, LoadRequest } from "./protocol.ts";

export interface GpuSession {
  readonly client: GpuClient;
  readonly device: DeviceReport;
  readonly stage: StageDescription;
  readonly loaded: LoadTime;
}

/** From the first header to a stage that is ready. */
export interface LoadTime {
  /** Of weights, as stored. */
  readonly bytes: number;
  readonly seconds: number;
}

export function deviceRequest(values: Values): DeviceRequest {
  const { webgpu = "auto", adapter: adapterName, tuning, matrices = "f16" } = values;
  return { webgpu, adapterName, tuning: tuning !== "off", matrices };
}

/** "llvmpipe (LLVM 15.0.6, 256 bits) through Dawn, a software adapter: slow". */
export function adapterLine({ adapter, dialect }: Pick<DeviceReport, "adapter" | "dialect">): string {
  const name = adapter.description || [adapter.vendor, adapter.device || adapter.architecture].filter((part) => part !== "").join(" ");
  const engine = { wgpu: "Deno's wgpu", dawn: "Dawn", browser: "the browser" }[dialect.engine];
  return `${name || "an adapter without a name"} through ${engine}${adapter.isSoftware ? ", a software adapter: slow" : ""}`;
}

/** Starts the worker and gives it to `work`; ends it afterwards, whatever happens. */
export async function withGpu<T>(work: (client: GpuClient) => Promise<T>): Promise<T> {
  const client = new GpuClient();
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** What a command makes ready while the device opens: the model, how to load it, and whatever else it wants back. */
export interface Prepared {
  readonly model: OpenModel;
  readonly load: Omit<LoadRequest, "location" | "config">;
}

/**
 * Opens the device while `prepare` opens the model, which is then loaded. Errors of the model come first: they are the person's to mend.
 */
export async function startModel<T extends Prepared>(
  client: GpuClient,
  { values, terminal, interrupts }: Invocation,
  prepare: () => Promise<T>,
): Promise<T & GpuSession> {
  const { signal } = interrupts;
  const opening = client.open(deviceRequest(values), signal);
  opening.catch(() => {});
  const prepared = await prepare();
  const { model, load } = prepared;
  // The worker opens it again; its headers are all that was read here.
  await model.checkpoint.close();
  const device = await opening;
  const { fleet } = load;
  if (fleet) terminal.err(`Devices: ${fleetLine(fleet)}\n`);
  else terminal.err(`Adapter: ${adapterLine(device)}\n`);
  const { tuning } = device;
  if (tuning.problem !== null) terminal.err(`Warning: ${tuning.problem}\n`);
  if (tuning.source === "own" || tuning.source === "shipped") terminal.err(`Tuning: ${tuningLine(tuning)}\n`);
  const begin = performance.now();
  const progress = new Progress(terminal, `Loading ${model.name}`);
  let totalBytes = 0;
  const onProgress = ({ loadedBytes, totalBytes: total }: LoadProgress): void => {
    totalBytes = total;
    progress.update(loadedBytes, total);
  };
  try {
    const stage = await client.load({ ...load, location: model.location, config: model.configOverride }, onProgress, signal);
    const notes = fleet ? await client.fleetNotes(signal) : [];
    const loaded = { bytes: totalBytes, seconds: (performance.now() - begin) / 1000 };
    const rate = formatBytes(loaded.bytes / loaded.seconds);
    progress.end((ms) => `Loaded ${model.name}: ${formatBytes(totalBytes)} in ${formatDuration(ms)}, ${rate}/s`);
    for (const note of notes) terminal.err(`Warning: ${note}\n`);
    return { ...prepared, client, device, stage, loaded };
  } catch (error) {
    progress.end();
    throw error;
  }
}

function fleetLine(fleet: FleetWish): string {
  if ("plan" in fleet) return `${fleet.plan.devices.map(({ name }) => name).join(", ")}, as planned`;
  return `${fleet.members.map(({ name }) => name).join(", ")}, which share ${fleet.split}`;
}
