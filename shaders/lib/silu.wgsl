// g / (1 + e^-g). The exponent is bounded, because what e^x gives when it overflows is up to the implementation.

fn silu(gate: f32) -> f32 {
  return gate / (1.0 + exp(min(-gate, 80.0)));
}
