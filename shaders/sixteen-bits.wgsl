// Values in 16 bits and in 32, four at a time. All in integers, so that no adapter's treatment of denormals or NaN shows.
// To 16 bits: to nearest, ties to even; denormals of the narrow format are exact; beyond its range: infinity; -0 stays -0;
// NaN keeps its sign and the upper bits of its payload, and becomes quiet. To 32 bits: exact, a signalling NaN stays one.
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
