/**
 * A device's terms of the cost model from steps that it was timed at, which is the only way to know them where a model is so small, or a device so odd, that bytes and arithmetic alone do not
 * say how long a step takes.
 */
import { ClusterError } from "../errors.ts";
import { CostModel, type Workload } from "./cost.ts";
import { type Device, Links } from "./fleet.ts";
import type { ModelCosts } from "./modelCosts.ts";

/** A decoding step of some layers, embedding and head included where they are the model's first or last. */
export interface TimedLayers {
  readonly begin: number;
  readonly end: number;
  /** From the call to the output on the host, which both have. */
  readonly seconds: number;
}

export interface TimedDevice {
  /** A few layers, more layers of the same kind, and the whole model. */
  readonly few: TimedLayers;
  readonly more: TimedLayers;
  readonly whole: TimedLayers;
  /** What of each is a readback, and what a message and its answer. */
  readonly readbackSeconds: number;
  readonly roundTripSeconds: number;
}

export type MeasuredTerms = Pick<Device, "bytesPerSecond" | "layerSeconds" | "stepSeconds" | "readbackSeconds">;

/** Beyond what any device reads: bytes cost nothing. */
const NO_BYTES = 1e18;

/** @throws ClusterError named bad-plan unless `more` has more layers than `few` */
export function measuredTerms(model: ModelCosts, work: Workload, timed: TimedDevice): MeasuredTerms {
  const { few, more, whole, readbackSeconds, roundTripSeconds } = timed;
  const layersOf = ({ begin, end }: TimedLayers): number => end - begin;
  const apart = layersOf(more) - layersOf(few);
  if (apart <= 0)
    throw new ClusterError("bad-plan", `Cannot tell what a layer takes: steps of ${layersOf(few)} and ${layersOf(more)} layers were timed`);
  const perLayer = Math.max(0, (more.seconds - few.seconds) / apart);
  const perStep = few.seconds - perLayer * layersOf(few);
  // What the whole model has besides so many of these layers: its head, and layers of another kind.
  const others = whole.seconds - perStep - perLayer * layersOf(whole);
  const [fewBytes, moreBytes, wholeBytes] = [few, more, whole].map((layers) => bytesOf(model, work, layers));
  const layerBytes = ((moreBytes ?? 0) - (fewBytes ?? 0)) / apart;
  const otherBytes = (wholeBytes ?? 0) - layerBytes * layersOf(whole);
  // A layer's bytes cannot take longer than the layer.
  const perByte = Math.min(others > 0 && otherBytes > 0 ? others / otherBytes : 0, layerBytes > 0 ? perLayer / layerBytes : 0);
  return {
    bytesPerSecond: perByte > 0 ? 1 / perByte : NO_BYTES,
    layerSeconds: perLayer - perByte * layerBytes,
    stepSeconds: Math.max(0, perStep - readbackSeconds - roundTripSeconds),
    readbackSeconds,
  };
}

/** That a decoding step of these layers reads. */
function bytesOf(model: ModelCosts, work: Workload, { begin, end }: TimedLayers): number {
  const device: Device = {
    name: "a byte a second",
    memoryBytes: Number.MAX_VALUE,
    bytesPerSecond: 1,
    flopsPerSecond: NO_BYTES,
    layerSeconds: 0,
    stepSeconds: 0,
    readbackSeconds: 0,
  };
  return new CostModel(model, new Links({ links: [] }), work).stage({ device, helpers: [], begin, end })?.decodeSeconds ?? 0;
}
