// Queries, scaled and laid out as the other attention kernels read them: for each quad of rows and each dimension the four
// rows' values; rows that there are not are zero.
override DIM: u32;
@group(0) @binding(0) var<storage, read> queries: array<f32>;
@group(0) @binding(1) var<storage, read_write> quadded: array<vec4f>;

fn value_of(kv: u32, row: u32, d: u32) -> f32 {
  if (row >= parameters.rows) { return 0.0; }
  return queries[(kv * parameters.rows + row) * DIM + d] * parameters.scale;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let quads = (parameters.rows + 3u) / 4u;
  let kv = lane / DIM / quads;
  if (kv >= parameters.kv_heads) { return; }
  let row = lane / DIM % quads * 4u;
  let d = lane % DIM;
  quadded[lane] = vec4f(value_of(kv, row, d), value_of(kv, row + 1u, d), value_of(kv, row + 2u, d), value_of(kv, row + 3u, d));
}
