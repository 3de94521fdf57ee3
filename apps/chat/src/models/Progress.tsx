/** How far a model is: on its way into this browser, and from there onto the GPU. */
import type { DownloadProgress, LoadProgress } from "@shoal/web";
import type { ComponentChildren } from "preact";
import { formatBytes, formatSeconds } from "../format.ts";

interface DownloadViewProps {
  readonly progress: DownloadProgress | null;
  readonly bytesPerSecond?: number;
  /** Whether the browser promised to keep it; null where nobody has asked. */
  readonly promised: boolean | null;
  readonly children: ComponentChildren;
}

export function DownloadView({ progress, bytesPerSecond = 0, promised, children }: DownloadViewProps) {
  const { bytes, totalBytes, elsewhere } = progress ?? { bytes: 0, totalBytes: 1, elsewhere: false };
  const left = formatSeconds((totalBytes - bytes) / bytesPerSecond);
  return (
    <div class="progress">
      <progress aria-label="Download" value={bytes} max={totalBytes} />
      <p>
        {progress ? `${formatBytes(bytes)} of ${formatBytes(totalBytes)}` : "Checking what is here already…"}
        {bytesPerSecond > 0 && bytes < totalBytes && `, ${formatBytes(bytesPerSecond)}/s, ${left} left`}
      </p>
      {elsewhere && <p role="status">Another tab is downloading this model. This one goes on when that is done, paused or closed.</p>}
      {promised === false && (
        <p class="quiet" role="status">
          This browser does not promise to keep the model: when the disk fills up it may drop it, and it is then downloaded again.
        </p>
      )}
      {children}
    </div>
  );
}

export function LoadView({ progress }: { readonly progress: LoadProgress | null }) {
  const { loadedBytes, totalBytes } = progress ?? { loadedBytes: 0, totalBytes: 1 };
  return (
    <div class="progress">
      <p role="status">Loading the model onto your GPU…</p>
      <progress aria-label="Loading" value={loadedBytes} max={totalBytes} />
      {progress && (
        <p>
          {formatBytes(loadedBytes)} of {formatBytes(totalBytes)}
        </p>
      )}
    </div>
  );
}
