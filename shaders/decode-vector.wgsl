// A lane decodes a vector, its octets one after the other.
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = flat_lane(group, groups, local);
  if (i >= parameters.vectors) { return; }
  let record = source_of(i);
  let vector = target_of(i);
  let scale = record_scale(CODEC, record);
  for (var octet = 0u; octet < DIM / 8u; octet++) { decode_octet(record, octet, scale, vector); }
}
