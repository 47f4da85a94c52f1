// A row to each lane: no barrier, nothing shared.
override WORKGROUP: u32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (group.y * groups.x + group.x) * WORKGROUP + local;
  if (row < rows()) { put(row, gathered(row, 0u, 1u)); }
}
