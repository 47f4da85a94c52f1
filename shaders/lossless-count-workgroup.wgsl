// Counts symbols: a part, 256 counters, to each workgroup, which shares them.
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
var<workgroup> bins: array<atomic<u32>, 256>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let fours = fours_of(parameters.bytes);
  let part = flat_group(group, groups);
  for (var i = local; i < 256u; i += WORKGROUP) { atomicStore(&bins[i], 0u); }
  workgroupBarrier();
  if (part < parameters.parts) {
    for (var four = part * WORKGROUP + local; four < fours; four += parameters.parts * WORKGROUP) {
      let symbols = symbols_of(four);
      for (var i = 0u; i < 4u; i++) { atomicAdd(&bins[(symbols >> (8u * i)) & 0xffu], 1u); }
    }
  }
  workgroupBarrier();
  if (part >= parameters.parts) { return; }
  for (var i = local; i < 256u; i += WORKGROUP) { counts[part * 256u + i] = atomicLoad(&bins[i]); }
}
