// Two words of f16 or bf16 as four f32, for GPUs: all in integers, so that no adapter's treatment of denormals or NaN shows.
override FORMAT: u32; // 0: f16, 1: bf16

fn from_f16(bits: vec4u) -> vec4u {
  let size = bits & vec4u(0x7fff);
  let sign = (bits & vec4u(0x8000)) << vec4u(16);
  let normal = (size << vec4u(13)) + vec4u(0x38000000);
  // nearly always: no denormal, infinity or NaN among the four
  if (all(size - vec4u(0x400) < vec4u(0x7800))) { return sign | normal; }
  let wide = select(normal, (size << vec4u(13)) + vec4u(0x70000000), size >= vec4u(0x7c00));
  let top = firstLeadingBit(max(size & vec4u(0x3ff), vec4u(1)));
  let tiny = ((top + vec4u(103)) << vec4u(23)) | ((size << (vec4u(23) - top)) & vec4u(0x7fffff));
  let value = select(wide, select(tiny, vec4u(0), size == vec4u(0)), size < vec4u(0x400));
  return sign | value;
}

fn widened(pairs: vec2u) -> vec4u {
  let low = pairs & vec2u(0xffff);
  let high = pairs >> vec2u(16);
  let bits = vec4u(low.x, high.x, low.y, high.y);
  if (FORMAT == 0u) { return from_f16(bits); }
  return bits << vec4u(16);
}
