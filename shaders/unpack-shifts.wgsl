// Two words of f16 or bf16 as four f32, for GPUs, in integers (sixteen-bits.wgsl).
override FORMAT: u32; // 0: f16, 1: bf16

fn widened(pairs: vec2u) -> vec4u {
  let low = pairs & vec2u(0xffff);
  let high = pairs >> vec2u(16);
  let bits = vec4u(low.x, high.x, low.y, high.y);
  if (FORMAT == 0u) { return from_f16(bits); }
  return bits << vec4u(16);
}
