// Rounds f32 to 16 bits, eight values at a time; values of the target after the last one keep what they hold.
// The same bits on every adapter, by `narrowed` of pack-shifts.wgsl or pack-products.wgsl:
//   to nearest, ties to even; denormals of the narrow format are exact; beyond its range: infinity; -0 stays -0;
//   NaN keeps its sign and the upper bits of its payload, and becomes quiet.
override PER: u32;
override BESIDE: u32;
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> target_units: array<vec4u>;

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
