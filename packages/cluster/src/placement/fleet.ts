/** Devices and the links between them, as they were measured; from a file, so everything is checked. */
import { z } from "zod";
import { ClusterError } from "../errors.ts";

const positive = z.number().positive().finite();

/** Variables that say which of several GPUs a driver shows to a process; a file may set no others: some name libraries to be loaded. */
const WHICH_GPU = [
  "DRI_PRIME",
  "MESA_VK_DEVICE_SELECT",
  "VK_LOADER_DRIVERS_SELECT",
  "VK_LOADER_DRIVERS_DISABLE",
  "LP_NUM_THREADS",
] as const;

/** How a device is opened. */
export const deviceAddress = {
  /** Part of the adapter's name; the device's own name if there is none. */
  adapter: z.string().min(1).max(200).optional(),
  /** Of its process: where several adapters have one name, which of them. */
  env: z.partialRecord(z.enum(WHICH_GPU), z.string().max(200)).optional(),
};

const device = z.strictObject({
  name: z.string().min(1).max(100),
  ...deviceAddress,
  /** Bytes for weights, KV cache and activations. */
  memoryBytes: positive,
  /** Bytes a second that a decoding step reads weights with. */
  bytesPerSecond: positive,
  /** Multiply-adds of a prefill count two. */
  flopsPerSecond: positive,
  /** What a step takes on this device for each layer besides reading: dispatches. */
  layerSeconds: z.number().min(0).finite().default(0),
  /** What a step takes on this device however few layers it has: encoding, submitting, messages' own work. */
  stepSeconds: z.number().min(0).finite().default(0),
  /** From the device to the host, once: of hidden states for the next stage, of a layer's rows for experts elsewhere. */
  readbackSeconds: z.number().min(0).finite().default(0.001),
});

const link = z.strictObject({
  between: z.tuple([z.string(), z.string()]),
  /** One way. */
  latencySeconds: z.number().min(0).finite(),
  bytesPerSecond: positive,
});

const fleet = z.strictObject({
  devices: z.array(device).min(1).max(64),
  /** Devices without a link between them cannot work together, unless `defaultLink` says otherwise. */
  links: z.array(link).max(4096).default([]),
  defaultLink: link.omit({ between: true }).optional(),
});

export type Device = z.infer<typeof device>;
export type Link = z.infer<typeof link>;
export type Fleet = z.infer<typeof fleet>;

/** @throws ClusterError named bad-plan, with the field */
export function parseFleet(json: unknown): Fleet {
  const result = fleet.safeParse(json);
  const refuse = (field: string, what: string): never => {
    throw new ClusterError("bad-plan", `Cannot use the devices: '${field}' ${what}`, { field });
  };
  if (!result.success) {
    const [issue] = result.error.issues;
    return refuse(issue?.path.map(String).join(".") ?? "", `is wrong: ${issue?.message.slice(0, 200) ?? ""}`);
  }
  const names = new Set(result.data.devices.map(({ name }) => name));
  if (names.size < result.data.devices.length) refuse("devices", "has a name twice, expected each once");
  for (const [index, { between }] of result.data.links.entries()) {
    const unknown = between.find((name) => !names.has(name));
    if (unknown !== undefined) refuse(`links.${index}.between`, `names '${unknown}', expected one of the devices`);
  }
  return result.data;
}

/** Links by pairs of devices. */
export class Links {
  readonly #links = new Map<string, Omit<Link, "between">>();
  readonly #default: Omit<Link, "between"> | undefined;

  constructor({ links, defaultLink }: Pick<Fleet, "links" | "defaultLink">) {
    for (const { between, ...link } of links) this.#links.set([...between].sort().join("\n"), link);
    this.#default = defaultLink;
  }

  /** Seconds of a message of so many bytes, one way; infinite where there is no link. */
  seconds(from: Device, to: Device, bytes: number): number {
    if (from === to) return 0;
    const link = this.#links.get([from.name, to.name].sort().join("\n")) ?? this.#default;
    return link ? link.latencySeconds + bytes / link.bytesPerSecond : Number.POSITIVE_INFINITY;
  }
}
