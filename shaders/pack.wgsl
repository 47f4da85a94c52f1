// Rounds f32 to 16 bits, eight values at a time; values of the target after the last one keep what they hold.
// All in integers, so that no adapter's treatment of denormals or NaN shows:
//   to nearest, ties to even; denormals of the narrow format are exact; beyond its range: infinity; -0 stays -0;
//   NaN keeps its sign and the upper bits of its payload, and becomes quiet.
override PER: u32;
override BESIDE: u32;
override FORMAT: u32; // 0: f16, 1: bf16
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> target_units: array<vec4u>;

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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * WORKGROUP * PER + select(local, local * PER, BESIDE == 1u);
  let stride = select(WORKGROUP, 1u, BESIDE == 1u);
  let whole = parameters.values / 8u;
  let end = min(first + PER * stride, whole);
  for (var i = first; i < end; i += stride) {
    target_units[i] = vec4u(narrowed(source[i * 2u]), narrowed(source[i * 2u + 1u]));
  }
  // what is left of a unit is the first lane's
  let rest = parameters.values % 8u;
  if (rest == 0u || flat_lane(group, groups, local) != 0u) { return; }
  var upper = vec4u(0);
  if (rest > 4u) { upper = source[whole * 2u + 1u]; }
  let fresh = vec4u(narrowed(source[whole * 2u]), narrowed(upper));
  let low = select(vec4u(0), vec4u(0xffff), vec4u(0, 2, 4, 6) < vec4u(rest));
  let high = select(vec4u(0), vec4u(0xffff0000), vec4u(1, 3, 5, 7) < vec4u(rest));
  target_units[whole] = (fresh & (low | high)) | (target_units[whole] & ~(low | high));
}
