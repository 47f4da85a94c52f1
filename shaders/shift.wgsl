// Adds a row of a table, times a factor, to vectors: `each` vectors after each other share a row, the first row only the
// rest of what it was begun with. Four values at a time.
override PER: u32;
override BESIDE: u32;
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read> rows: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> target_units: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * WORKGROUP * PER + select(local, local * PER, BESIDE == 1u);
  let stride = select(WORKGROUP, 1u, BESIDE == 1u);
  let end = min(first + PER * stride, parameters.values / 4u);
  let quads = parameters.dim / 4u;
  for (var i = first; i < end; i += stride) {
    let row = (i / quads + parameters.begun) / parameters.each;
    target_units[i] = source[i] + parameters.factor * rows[row * quads + i % quads];
  }
}
