import { parseDemoConfig } from "@shoal/checkpoint";
import { describe, expect, it } from "vitest";
import { syntheticCheckpoint } from "./synthetic.ts";
import { stepWork } from "./work.ts";

const [DIM, VOCAB, DENSE, WIDTH, HEADS, LATENT, NOPE, ROPE, VALUE, EXPERTS] = [256, 1000, 384, 128, 2, 128, 32, 16, 64, 8] as const;
const config = parseDemoConfig({
  n_layers: 2,
  n_dense_layers: 1,
  dim: DIM,
  vocab_size: VOCAB,
  inter_dim: DENSE,
  moe_inter_dim: WIDTH,
  n_heads: HEADS,
  kv_lora_rank: LATENT,
  qk_nope_head_dim: NOPE,
  qk_rope_head_dim: ROPE,
  v_head_dim: VALUE,
  n_routed_experts: EXPERTS,
  n_shared_experts: 1,
  n_activated_experts: 2,
});
const checkpoint = syntheticCheckpoint(config);
const routing = [{ layer: 1, indices: Int32Array.from([3, 5, 5, 3]), weights: new Float32Array(4) }];

/** Of one layer: q, kv_a, kv_b, o. */
const attention = DIM * HEADS * (NOPE + ROPE) + DIM * (LATENT + ROPE) + LATENT * HEADS * (NOPE + VALUE) + DIM * HEADS * VALUE;
const expert = 3 * DIM * WIDTH;
const layerNorms = 4 * (DIM + DIM + LATENT);
const kvPerToken = (LATENT + ROPE) * 2;
const attend = HEADS * 2 * (2 * LATENT + ROPE);

describe("stepWork()", () => {
  it("counts a MoE layer: chosen experts once, however many tokens chose them", () => {
    const sequences = [{ before: 10, tokens: 2 }];
    const step = { range: { begin: 1, end: 2 }, tokens: 2, outputs: 0, sequences, kvFormat: "f16", routing, dispatches: 11 } as const;
    const matrices = attention + expert + DIM * EXPERTS;
    expect(stepWork(checkpoint, step)).toEqual({
      tokens: 2,
      dispatches: 11,
      bytes: 2 * (matrices + 2 * expert) + layerNorms + 12 * kvPerToken,
      flops: 2 * 2 * (matrices + 2 * expert) + (2 * 10 + 3) * attend,
    });
  });

  it("counts rows of the embedding, and the head where logits are wanted", () => {
    const step = {
      range: { begin: 0, end: 2 },
      tokens: 1,
      sequences: [{ before: 0, tokens: 1 }],
      kvFormat: "f16",
      routing,
      dispatches: 1,
    } as const;
    const none = stepWork(checkpoint, { ...step, outputs: 0 });
    const one = stepWork(checkpoint, { ...step, outputs: 1 });
    expect(one.bytes - none.bytes).toBe(VOCAB * DIM * 2 + DIM * 4);
    expect(one.flops - none.flops).toBe(2 * VOCAB * DIM);
    const layers = 2 * attention + 3 * DIM * DENSE + expert + DIM * EXPERTS + 2 * expert;
    expect(none.bytes).toBe(DIM * 2 + 2 * layers + 2 * layerNorms + 2 * kvPerToken);
  });
});
