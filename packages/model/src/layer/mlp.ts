/** The MLP of a layer: dense, or experts that a gate chooses, here or elsewhere. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { BufferRange } from "@shoal/gpu";
import {
  type RouterSpec,
  canPlaceRows,
  exactExpertsDown,
  exactExpertsGateUp,
  expertTileRows,
  expertsDownFew,
  expertsDownMany,
  expertsGateUpFew,
  expertsGateUpMany,
  type ExpertGrouping,
  type GatheredHalves,
  type HiddenHalves,
  type PlacedRows,
  gateFew,
  gateMany,
  gatesFewTogether,
  gatesManyTogether,
  gateUpLayout,
  halvesBytes,
  hiddenLayout,
  groupTokens,
  type HalvesRows,
  moeBoardBytes,
  moeRunsWhole,
  moeSublayer,
  ownBlocks,
  type ExpertGroup,
  type WeightMatrix,
  router,
} from "@shoal/kernels";
import { type Matrix2D, SUBLAYER_BOARD } from "../activations.ts";
import type { NormedInput, Recorder } from "../recorder.ts";
import type { LayerWeights, MlpWeights, RoutedExperts } from "../weights/layer.ts";
import { residualInput } from "./input.ts";

export function recordMlp(recorder: Recorder, { index, mlp: weights }: LayerWeights): void {
  if (recordMoeSublayer(recorder, weights)) return;
  const { config, activations, few } = recorder;
  const { routed, fixed } = weights;
  const input = residualInput(recorder, weights.norm, config.rmsNormEps, "MLP", hasLargeExperts(recorder));
  const paths: ExpertPath[] = [];
  if (routed) {
    const { routing } = activations;
    const slots = config.nActivatedExperts + routed.sharedSlots;
    const path: ExpertPath | undefined = routed.group && { which: "routed", group: routed.group, routing, slots };
    const placed = path && !fixed ? placedRows(recorder, routed.gate, path) : undefined;
    recordGate(recorder, routed, input, placed);
    if (path) paths.push({ ...path, placed });
    else recordGiving(recorder, index, input);
  }
  if (fixed) paths.push({ which: "fixed", group: fixed.group, routing: fixed.routing, slots: fixed.group.count });
  if (few || recorder.exact) {
    // All read the residual stream before any adds to it.
    for (const path of paths) recordGateUpFew(recorder, path, input, weights.norm);
    for (const path of paths) recordDownFew(recorder, path);
  } else {
    // The normalized input must be written before the first path adds to the residual stream.
    if (paths.length > 1) for (const { group } of paths) input.materialize(group.format);
    for (const path of paths) recordMany(recorder, path, input);
  }
  if (routed && !routed.group) recordJoining(recorder, index);
}

/** All of it in one dispatch. @returns whether the step, the layer and the device are fit for it */
function recordMoeSublayer(recorder: Recorder, { norm, routed, fixed }: MlpWeights): boolean {
  const { gpu, config, activations, tokens, few, exact } = recorder;
  const { step, residual, routing, board } = activations;
  if (!few || exact || fixed || !routed?.group) return false;
  const spec = routerSpec(config, routed.sharedSlots);
  if (moeBoardBytes(spec, config.hiddenSize, tokens) > SUBLAYER_BOARD) return false;
  const { gate, bias, group } = routed;
  if (!moeRunsWhole(gpu, { gate, spec, group, bias })) return false;
  const x = { x: residual.buffer, xStride: residual.stride, gamma: norm, epsilon: config.rmsNormEps };
  recorder.add(moeSublayer(gpu, { gate, spec, group, bias, ...x, tokens, step, routing, board, label: "MoE" }));
  return true;
}

function routerSpec(config: ModelConfig, sharedSlots: number): RouterSpec {
  return {
    nRoutedExperts: config.nRoutedExperts,
    nActivatedExperts: config.nActivatedExperts,
    nExpertGroups: config.nExpertGroups,
    topkGroup: config.topkGroup,
    scoreFunc: config.scoreFunc,
    groupScore: config.topkMethod === "noaux_tc" ? "top2sum" : "max",
    normTopkProb: config.normTopkProb,
    routedScalingFactor: config.routedScalingFactor,
    sharedSlots,
  };
}

/** From the residual stream to the choice of experts, and with `placed` to the rows that they multiply. */
function recordGate(
  recorder: Recorder,
  { gate: matrix, bias, sharedSlots }: RoutedExperts,
  input: NormedInput,
  placed: PlacedRows | undefined,
): void {
  const { gpu, config, activations, tokens, few, exact } = recorder;
  const { step, routing, routerLogits, board } = activations;
  const choice = { spec: routerSpec(config, sharedSlots), routing, step, ...(bias && { bias }) };
  if (few && !exact && gatesFewTogether(gpu, { matrix }))
    input.writtenBy((norm) => gateFew(gpu, { ...norm, ...choice, matrix, board, label: "gate" }));
  else if (!few && !exact && gatesManyTogether(gpu, matrix, tokens))
    input.writtenBy((norm) => gateMany(gpu, { ...norm, ...choice, matrix, placed, label: "gate" }));
  else {
    input.linear(matrix, routerLogits, "router logits");
    recorder.add(router(gpu, { ...choice, logits: routerLogits.buffer, logitsStride: routerLogits.stride, tokens, label: "router" }));
  }
}

/** Puts what experts elsewhere need where it is read at once; they compute while this device goes on with what it has of the layer. */
function recordGiving(recorder: Recorder, layer: number, input: NormedInput): void {
  const { config, activations, tokens } = recorder;
  const { routing, given } = activations;
  if (!given) throw new RangeError(`Layer ${layer} has no experts and no room to give them away`);
  const { buffer, stride } = input.materialize("f32");
  const routingBytes = tokens * config.nActivatedExperts * 8;
  recorder.copy(routing, given.out, 0, routingBytes);
  recorder.copy(buffer, given.out, routingBytes, tokens * stride * 4);
  recorder.mark("give", layer);
}

/** Adds what came back to the residual stream. */
function recordJoining(recorder: Recorder, layer: number): void {
  const { given } = recorder.activations;
  if (!given) throw new RangeError(`Layer ${layer} has no experts and no room for what they give`);
  recorder.mark("join", layer);
  const { buffer: out, stride: outStride } = given.sums;
  recorder.sum({ routing: given.once, slots: 1, out, outStride }, "experts elsewhere");
}

interface ExpertPath {
  readonly which: "routed" | "fixed";
  readonly group: ExpertGroup;
  readonly routing: GPUBuffer;
  readonly slots: number;
  /** By the gate. */
  readonly placed?: PlacedRows | undefined;
}

/** Where the gate can put the rows of a batch for its experts, who are grouped by another dispatch otherwise: undefined where it cannot, or has no room. */
function placedRows(recorder: Recorder, gate: WeightMatrix, { group, slots }: ExpertPath): PlacedRows | undefined {
  const { gpu, activations, tokens, few, exact } = recorder;
  const { halves, board } = activations;
  if (few || exact || !halves || !gatesManyTogether(gpu, gate, tokens) || !canPlaceRows(gpu, gate)) return undefined;
  const blocks = ownBlocks({ tokens, experts: group.count });
  const spec = { group, slots, tokens, halves, grouping: { ...expertGrouping(recorder, group, slots), blocks } };
  const to = gateUpLayout(gpu, spec);
  const hidden = hiddenHalves(recorder, spec);
  return to && hidden && { grouping: spec.grouping, to: { buffer: halves, layout: to.layout }, hidden, group, board };
}

/** Of a batch. */
function expertGrouping({ gpu, activations, tokens }: Recorder, { count: experts }: ExpertGroup, slots: number): ExpertGrouping {
  const { tiles, tileRows, halves } = activations;
  return { tiles, rows: tileRows, tileRows: expertTileRows(gpu, { tokens, slots, experts, halves: halves !== undefined }) };
}

/** Where gate and up can write what they make as down wants it, and there is room for that. */
function hiddenHalves({ gpu, activations }: Recorder, spec: ProductSpec): HiddenHalves | undefined {
  const layout = hiddenLayout(gpu, spec);
  const { gateUpScales: scales } = spec.group;
  const { hiddenHalves: buffer } = activations;
  return layout && scales && buffer && buffer.size >= halvesBytes(layout) ? { rows: { buffer, layout }, scales } : undefined;
}

function recordGateUpFew(recorder: Recorder, path: ExpertPath, input: NormedInput, gamma: BufferRange): void {
  const { gpu, config, activations, tokens } = recorder;
  const { which, group, routing, slots } = path;
  const fused = input.fuses;
  const x = fused ? activations.residual : input.materialize(group.format);
  const hidden = activations.expertHidden(which, group.width);
  const norm = fused ? { norm: { gamma, epsilon: config.rmsNormEps } } : {};
  const spec = { group, slots, routing, x: x.buffer, xStride: x.stride, h: hidden.buffer, tokens, label: `${which} experts gate, up` };
  recorder.add(recorder.exact ? exactExpertsGateUp(gpu, spec) : expertsGateUpFew(gpu, { ...spec, ...norm }));
  if (recorder.quantizes(group.format)) recorder.quantize(hidden, group.width, tokens * slots, `${which} experts quantize`);
}

function recordDownFew(recorder: Recorder, { which, group, routing, slots }: ExpertPath): void {
  const { gpu, activations, tokens } = recorder;
  const { residual } = activations;
  const h = activations.expertHidden(which, group.width).buffer;
  const y = { y: residual.buffer, yStride: residual.stride, residual: true };
  const spec = { group, slots, routing, h, ...y, tokens, label: `${which} experts down` };
  recorder.add(recorder.exact ? exactExpertsDown(gpu, spec) : expertsDownFew(gpu, spec));
}

function recordMany(recorder: Recorder, { which, group, routing, slots, placed }: ExpertPath, input: NormedInput): void {
  const { gpu, activations, tokens } = recorder;
  const { step, expertOut, normed, halves, maxTokens } = activations;
  const hidden = activations.expertHidden(which, group.width);
  const grouping = placed?.grouping ?? expertGrouping(recorder, group, slots);
  const spec = { group, slots, tokens, grouping, halves };
  const read: GateUpInput = placed ? { x: normed, written: placed.to } : gateUpInput(recorder, input, spec);
  const { x, written, gather } = read;
  const rows = (placed ?? gather)?.hidden?.rows;
  if (!placed) {
    const experts = group.count;
    recorder.add(groupTokens(gpu, { routing, slots, experts, ...grouping, tokens, maxTokens, step, gather, label: "group tokens" }));
  }
  const gateUp = { ...spec, written, hidden: rows, x: x.buffer, xStride: x.stride, h: hidden.buffer };
  recorder.add(expertsGateUpMany(gpu, { ...gateUp, label: `${which} experts gate, up` }));
  if (recorder.quantizes(group.format)) recorder.quantize(hidden, group.width, tokens * slots, `${which} experts quantize`);
  const out = { out: expertOut.buffer, outStride: expertOut.stride };
  recorder.add(expertsDownMany(gpu, { ...spec, written: rows, h: hidden.buffer, ...out, label: `${which} experts down` }));
  recorder.sum({ routing, slots, ...out }, `${which} experts sum`);
}

/**
 * What gate and up of many tokens read, written as they want it: as halves by the norm, gathered by `groupTokens` where rows of tiles are wanted. That also settles the powers of two with which what they
 * make is written as down wants it, where it can be.
 */
function gateUpInput(recorder: Recorder, input: NormedInput, spec: ProductSpec): GateUpInput {
  const { gpu, activations } = recorder;
  const { halves, tokens, group } = spec;
  const wanted = recorder.quantizes(group.format) ? undefined : gateUpLayout(gpu, spec);
  const layout = wanted && (wanted.gathered ? { ...wanted.layout, rows: tokens, blocks: false } : wanted.layout);
  const from = layout && input.halves(layout);
  if (!wanted || !from || !halves) return { x: input.materialize(group.format) };
  if (!wanted.gathered) return { x: activations.normed, written: from };
  const to = { buffer: halves, layout: wanted.layout };
  const gather = { from, to, hidden: hiddenHalves(recorder, spec) };
  return { x: activations.normed, written: to, gather };
}

type ProductSpec = Parameters<typeof gateUpLayout>[1];

interface GateUpInput {
  readonly x: Matrix2D;
  readonly written?: HalvesRows;
  readonly gather?: GatheredHalves;
}

/** Weights of gate and up that a token's experts have from which a dispatch that writes the norm out costs a GPU less than each of their workgroups making it. */
const LARGE_EXPERTS = 2 ** 27;

/** On an H100 the fused norm takes 25 us of a layer of DeepSeek-V3's 120 for gate and up, and a dispatch 10; V2-Lite's experts are too small for that. */
function hasLargeExperts({ gpu, config }: Recorder): boolean {
  const { hiddenSize, moeIntermediateSize, nActivatedExperts } = config;
  return !gpu.adapter.isSoftware && nActivatedExperts * 2 * moeIntermediateSize * hiddenSize >= LARGE_EXPERTS;
}
