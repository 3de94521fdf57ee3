/** What the page and its worker say to one another about a model: where it is, whether it fits, how far it is. Sizes in bytes. */
import type { EngineStatus } from "@shoal/engine";
import type { LoadProgress, PagingStats } from "@shoal/model";

export type { LoadProgress } from "@shoal/model";

/**
 * Where a model's files lie. `folder`: an address under which they are, with or without a `manifest.json`. `hub`: a repository of a hub that speaks Hugging Face's
 * protocol. `files`: picked on this machine; nothing is kept of them.
 */
export type ModelSource =
  | { readonly kind: "folder"; readonly url: string }
  | { readonly kind: "hub"; readonly repo: string; readonly revision?: string; readonly endpoint?: string }
  | { readonly kind: "files"; readonly name: string; readonly files: readonly File[] };

/** What is known before anything large is fetched. */
export interface ModelCheck {
  readonly model: string;
  readonly adapter: string;
  readonly isSoftware: boolean;
  readonly f16: boolean;
  readonly limits: { readonly maxBufferSize: number; readonly maxStorageBufferBindingSize: number };
  readonly gpuBytes: number;
  readonly memory: { readonly weights: number; readonly kvCache: number; readonly activations: number };
  /** Why this GPU cannot run the model; null where it can, as far as its limits tell. How much memory it has no browser tells. */
  readonly refusal: string | null;
  readonly downloadBytes: number;
  /** Still to be fetched. */
  readonly missingBytes: number;
  /** Free for this site; null where the browser does not tell. */
  readonly storageBytes: number | null;
  /** Whether the browser has promised not to drop what this site keeps when the disk fills up. */
  readonly persisted: boolean;
  /** Whether it could be loaded straight from where it lies, keeping nothing. */
  readonly streams: boolean;
  readonly contextTokens: number;
  /** Of `gpuBytes`, what its routed experts take, and the least that must be there of them; null for a model without. `LoadOptions.expertBytes` may be anything between. */
  readonly experts: { readonly bytes: number; readonly leastBytes: number } | null;
}

export interface DownloadProgress {
  /** In storage, of all files. */
  readonly bytes: number;
  readonly totalBytes: number;
  /** Came over the network during this call. */
  readonly fetchedBytes: number;
  /** Another tab is fetching the same model: this one takes over if that is closed. */
  readonly elsewhere: boolean;
}

export interface LoadOptions {
  /** Straight from the network to the GPU, keeping nothing: for where there is no room. Every visit fetches it anew. */
  readonly stream?: boolean;
  /** Whether layers go to a second GPU too, where the browser has one: if the first has too little memory for all (default), always, or never. */
  readonly spread?: Spread;
  /** Bytes of the GPU for routed experts: those that do not fit are read from where the model is kept whenever a token needs them. By default all are there, or as many as fit where memory runs out and there is no second GPU. */
  readonly expertBytes?: number;
}

/** How it goes where not all experts are on the GPU. */
export interface PagingView extends PagingStats {
  /** Of the GPU, for experts; and what all of them would take. */
  readonly expertBytes: number;
  readonly allBytes: number;
}

export type Spread = "if-needed" | "always" | "never";

export interface LayerRouting {
  readonly layer: number;
  /** How often each routed expert was chosen. */
  readonly counts: Uint32Array<ArrayBuffer>;
  /** The experts of the last token that was seen, by falling score. */
  readonly last: Int32Array<ArrayBuffer>;
}

/** What the last steps chose, of those that were looked at. */
export interface RoutingView {
  readonly tokens: number;
  readonly layers: readonly LayerRouting[];
}

/** Whether the model's MTP module drafts tokens, as many as is fastest. If not: it has none, a processor computes, on which drafts save about what they cost, or layers lie on two GPUs. */
export type MtpUse = "drafts" | "none" | "processor" | "two-gpus";

export interface Inspection {
  /** Bytes on the device, by kind. */
  readonly memory: Readonly<Record<string, number>>;
  readonly status: EngineStatus;
  readonly mtp: MtpUse;
  /** Whether `kernelTimes` can measure. */
  readonly timestamps: boolean;
  readonly nRoutedExperts: number;
  readonly nActivatedExperts: number;
  /** Undefined where all experts are on the GPU. */
  readonly paging: PagingView | undefined;
  /** Undefined until a step was looked at. */
  readonly routing: RoutingView | undefined;
}

export type LoadReport = (progress: LoadProgress) => void;

/** A request for the worker's API, as Fetch has them. */
export interface PortRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | undefined;
}

export interface PortResponse {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
}
