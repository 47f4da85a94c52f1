// Copies words, four at a time; words of the target after the last one keep what they hold.
override PER: u32;
override BESIDE: u32;
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> target_units: array<vec4u>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * WORKGROUP * PER + select(local, local * PER, BESIDE == 1u);
  let stride = select(WORKGROUP, 1u, BESIDE == 1u);
  let whole = parameters.words / 4u;
  let end = min(first + PER * stride, whole);
  for (var i = first; i < end; i += stride) {
    target_units[i] = source[i];
  }
  // what is left of a unit is the first lane's
  let rest = parameters.words % 4u;
  if (rest == 0u || flat_lane(group, groups, local) != 0u) { return; }
  target_units[whole] = select(target_units[whole], source[whole], vec4u(0, 1, 2, 3) < vec4u(rest));
}
