/** One WebGPU engine, tried in a worker of its own, so that one that hangs or dies leaves the others alone. */
import type { EngineName } from "@shoal/gpu";
import type { DeviceTimes } from "@shoal/gpu";
import type { DeviceReport } from "../gpu/protocol.ts";
import { withGpu } from "../gpu/session.ts";

export interface EngineReport {
  readonly engine: Exclude<EngineName, "browser">;
  /** Null where no device could be opened. */
  readonly device: DeviceReport | null;
  readonly times: DeviceTimes | null;
  /** What went wrong. */
  readonly problem: string | null;
}

/** A driver that hangs must not hang the doctor. */
const LIMIT_MS = 60_000;

export async function examineEngine(
  engine: EngineReport["engine"],
  adapterName: string | undefined,
  signal: AbortSignal,
): Promise<EngineReport> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  return withGpu(async (client) => {
    let device: DeviceReport | null = null;
    try {
      device = await client.open({ webgpu: engine, adapterName, tuning: true }, limited);
      return { engine, device, times: await client.measure(limited), problem: null };
    } catch (error) {
      signal.throwIfAborted();
      const problem = limited.aborted
        ? `it did not answer within ${LIMIT_MS / 1000} s`
        : error instanceof Error
          ? error.message
          : String(error);
      return { engine, device, times: null, problem };
    }
  });
}
