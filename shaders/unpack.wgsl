// Widens 16 bits to f32, eight values at a time; values of the target after the last one keep what they hold.
// Exact, by `widened` of unpack-shifts.wgsl or unpack-products.wgsl: denormals, infinities, signs and the payloads of NaN (a
// signalling one stays one).
override PER: u32;
override BESIDE: u32;
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> target_units: array<vec4u>;

fn put(at: u32, fresh: vec4u) {
  if (at >= parameters.values) { return; }
  let rest = parameters.values - at;
  if (rest >= 4u) {
    target_units[at / 4u] = fresh;
  } else {
    target_units[at / 4u] = select(target_units[at / 4u], fresh, vec4u(0, 1, 2, 3) < vec4u(rest));
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * WORKGROUP * PER + select(local, local * PER, BESIDE == 1u);
  let stride = select(WORKGROUP, 1u, BESIDE == 1u);
  let whole = parameters.values / 8u;
  let end = min(first + PER * stride, whole);
  for (var i = first; i < end; i += stride) {
    let unit = source[i];
    target_units[i * 2u] = widened(unit.xy);
    target_units[i * 2u + 1u] = widened(unit.zw);
  }
  // what is left of a unit is the first lane's
  let rest = parameters.values % 8u;
  if (rest == 0u || flat_lane(group, groups, local) != 0u) { return; }
  put(whole * 8u, widened(source[whole].xy));
  put(whole * 8u + 4u, widened(source[whole].zw));
}
