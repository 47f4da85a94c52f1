// Four f32 as four f16 or bf16, for GPUs: all in integers, so that no adapter's treatment of denormals or NaN shows.
override FORMAT: u32; // 0: f16, 1: bf16

fn to_f16(bits: vec4u) -> vec4u {
  let sign = (bits >> vec4u(16)) & vec4u(0x8000);
  let size = bits & vec4u(0x7fffffff);
  let normal = (size - vec4u(0x38000000) + vec4u(0xfff) + ((size >> vec4u(13)) & vec4u(1))) >> vec4u(13);
  // nearly always: all four are normal numbers of the narrow format
  if (all(size - vec4u(0x38800000) < vec4u(0x0f000000))) { return sign | normal; }
  // below 2^-14: the mantissa in units of 2^-24; 25 places are enough to leave nothing
  let places = vec4u(126) - clamp(size >> vec4u(23), vec4u(101), vec4u(112));
  let mantissa = (bits & vec4u(0x7fffff)) | vec4u(0x800000);
  let half = (vec4u(1) << (places - vec4u(1))) - vec4u(1);
  let tiny = (mantissa + half + ((mantissa >> places) & vec4u(1))) >> places;
  let nan = vec4u(0x7e00) | ((size >> vec4u(13)) & vec4u(0x3ff));
  var narrow = select(normal, tiny, size < vec4u(0x38800000));
  narrow = select(narrow, vec4u(0x7c00), size >= vec4u(0x47800000));
  return sign | select(narrow, nan, size > vec4u(0x7f800000));
}

fn to_bf16(bits: vec4u) -> vec4u {
  let near = (bits + vec4u(0x7fff) + ((bits >> vec4u(16)) & vec4u(1))) >> vec4u(16);
  let nan = (bits >> vec4u(16)) | vec4u(0x40);
  return select(near, nan, (bits & vec4u(0x7fffffff)) > vec4u(0x7f800000));
}

fn narrowed(bits: vec4u) -> vec2u {
  var halves: vec4u;
  if (FORMAT == 0u) { halves = to_f16(bits); } else { halves = to_bf16(bits); }
  return halves.xz | (halves.yw << vec2u(16));
}
