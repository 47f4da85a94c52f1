// Counts symbols: a part, 256 counters, to each lane, which nobody else touches.
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let fours = fours_of(parameters.bytes);
  let part = flat_lane(group, groups, local);
  if (part >= parameters.parts) { return; }
  let base = part * 256u;
  for (var i = 0u; i < 256u; i++) { counts[base + i] = 0u; }
  for (var four = part; four < fours; four += parameters.parts) {
    let symbols = symbols_of(four);
    for (var i = 0u; i < 4u; i++) { counts[base + ((symbols >> (8u * i)) & 0xffu)]++; }
  }
}
