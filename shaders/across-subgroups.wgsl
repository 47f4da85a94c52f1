// What all lanes of a workgroup hold, folded into one: shuffles within subgroups, then a barrier between them.
// WORKGROUP is a multiple of every subgroup size that the adapter may choose, and has 64 subgroups at most.
override WORKGROUP: u32;
var<workgroup> folded: array<f32, 64>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32, @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) lanes: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  for (var row = group.x; row < rows(); row += groups.x) {
    var all = gathered(row, local, WORKGROUP);
    for (var distance = 1u; distance < lanes; distance *= 2u) {
      all = combine(all, subgroupShuffleXor(all, distance));
    }
    if (lane == 0u) { folded[subgroup] = all; }
    workgroupBarrier();
    if (local == 0u) {
      all = folded[0];
      for (var k = 1u; k < subgroups; k++) { all = combine(all, folded[k]); }
      put(row, all);
    }
    workgroupBarrier();
  }
}
