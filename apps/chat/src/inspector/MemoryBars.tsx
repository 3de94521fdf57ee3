/** What the model holds on the GPU, by kind, as the device's own ledger has it. */
import type { Inspection } from "@shoal/web";
import { formatBytes } from "../format.ts";

const NAMES: Readonly<Record<string, string>> = {
  weights: "weights",
  kvCache: "KV cache",
  activations: "activations",
  tables: "tables",
  readback: "readback",
  scratch: "scratch",
};

interface MemoryBarsProps {
  readonly memory: Inspection["memory"];
  readonly kvBlocks: Inspection["status"]["kvBlocks"];
}

export function MemoryBars({ memory, kvBlocks }: MemoryBarsProps) {
  const kinds = Object.entries(memory)
    .filter(([, bytes]) => bytes > 0)
    .toSorted(([, a], [, b]) => b - a);
  const total = kinds.reduce((sum, [, bytes]) => sum + bytes, 0);
  return (
    <>
      <table class="bars">
        <caption class="hidden">Bytes by kind</caption>
        <tbody>
          {kinds.map(([kind, bytes]) => (
            <tr key={kind}>
              <th scope="row">{NAMES[kind] ?? kind}</th>
              <td>
                <meter value={bytes} max={total} aria-hidden="true" /> <span>{formatBytes(bytes)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="quiet">
        {formatBytes(total)} in all. Of {kvBlocks.total} KV blocks {kvBlocks.cached} are kept for prompts that begin alike, {kvBlocks.free}{" "}
        are free.
      </p>
    </>
  );
}
