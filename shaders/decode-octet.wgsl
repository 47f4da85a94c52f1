// A lane decodes eight values: neighbours write side by side.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let i = lane / (DIM / 8u);
  if (i >= parameters.vectors) { return; }
  let record = source_of(i);
  decode_octet(record, lane % (DIM / 8u), record_scale(CODEC, record), target_of(i));
}
