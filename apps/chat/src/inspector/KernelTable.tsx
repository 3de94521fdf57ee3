/** GPU time of one decoding step by kernel, measured on demand by timestamp queries. */
import { useSignal } from "@preact/signals";
import type { KernelTimes } from "@shoal/web";
import type { AppState } from "../appState.ts";

const MOST_ROWS = 14;

export function KernelTable({ app, available }: { readonly app: AppState; readonly available: boolean }) {
  const times = useSignal<KernelTimes | null>(null);
  const status = useSignal<string | null>(null);
  if (!available) return <p class="quiet">This browser gives no timestamp queries on this GPU, so kernels cannot be timed here.</p>;
  const measure = async (): Promise<void> => {
    const { engine } = app.model;
    if (!engine) return;
    status.value = "Measuring…";
    try {
      times.value = await engine.kernelTimes();
      status.value = null;
    } catch (error) {
      status.value = error instanceof Error ? error.message : String(error);
    }
  };
  const kernels = times.value?.kernels ?? [];
  return (
    <>
      <button type="button" onClick={() => void measure()}>
        Measure a step
      </button>
      {status.value !== null && <p role="status">{status.value}</p>}
      {times.value && (
        <table class="bars">
          <caption>{times.value.gpuMs.toFixed(2)} ms for one token, each kernel timed apart</caption>
          <tbody>
            {kernels.slice(0, MOST_ROWS).map(({ label, gpuMs, share, dispatches }) => (
              <tr key={label}>
                <th scope="row">
                  {label} <small>×{dispatches}</small>
                </th>
                <td>
                  <meter value={share} max={1} aria-hidden="true" /> <span>{gpuMs.toFixed(3)} ms</span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
