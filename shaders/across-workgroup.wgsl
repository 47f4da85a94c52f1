// What all lanes of a workgroup hold, folded into one in workgroup memory. WORKGROUP is a power of two.
override WORKGROUP: u32;
var<workgroup> folded: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  for (var row = group.x; row < rows(); row += groups.x) {
    folded[local] = gathered(row, local, WORKGROUP);
    workgroupBarrier();
    for (var distance = WORKGROUP / 2u; distance > 0u; distance /= 2u) {
      if (local < distance) { folded[local] = combine(folded[local], folded[local + distance]); }
      workgroupBarrier();
    }
    if (local == 0u) { put(row, folded[0]); }
    workgroupBarrier();
  }
}
