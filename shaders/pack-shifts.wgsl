// Four f32 as four f16 or bf16, for GPUs, in integers (sixteen-bits.wgsl).
override FORMAT: u32; // 0: f16, 1: bf16

fn narrowed(bits: vec4u) -> vec2u {
  var halves: vec4u;
  if (FORMAT == 0u) { halves = to_f16(bits); } else { halves = to_bf16(bits); }
  return halves.xz | (halves.yw << vec2u(16));
}
