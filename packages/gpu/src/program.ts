/**
 * A step of work: dispatches and buffer copies in order, encoded into one command buffer and, as long as no copy stands between, one compute pass.
 * WebGPU orders dispatches of a pass by the buffers that they write, so no barrier is ever named.
 */
import type { Dispatch } from "./kernel.ts";

export interface BufferCopy {
  readonly from: GPUBuffer;
  readonly fromOffset: number;
  readonly to: GPUBuffer;
  readonly toOffset: number;
  readonly size: number;
}

export type Command = Dispatch | { readonly copy: BufferCopy };

/** Encodes commands. `timestamps` gives every dispatch a pass of its own, for profiles: slower, but each is timed. */
export function encodeCommands(
  encoder: GPUCommandEncoder,
  commands: readonly Command[],
  timestamps?: (dispatch: Dispatch, index: number) => GPUComputePassTimestampWrites | undefined,
): void {
  let pass: GPUComputePassEncoder | undefined;
  const end = (): void => {
    pass?.end();
    pass = undefined;
  };
  let pipeline: GPUComputePipeline | undefined;
  let index = 0;
  for (const command of commands) {
    if ("copy" in command) {
      end();
      const { from, fromOffset, to, toOffset, size } = command.copy;
      encoder.copyBufferToBuffer(from, fromOffset, to, toOffset, size);
      continue;
    }
    if (!pass || timestamps) {
      end();
      const timestampWrites = timestamps?.(command, index);
      pass = encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
      pipeline = undefined;
    }
    if (pipeline !== command.pipeline) {
      pass.setPipeline(command.pipeline);
      pipeline = command.pipeline;
    }
    pass.setBindGroup(0, command.bindGroup);
    pass.dispatchWorkgroups(...command.grid);
    index++;
  }
  end();
}

export function dispatchesOf(commands: readonly Command[]): readonly Dispatch[] {
  return commands.filter((command): command is Dispatch => "pipeline" in command);
}
