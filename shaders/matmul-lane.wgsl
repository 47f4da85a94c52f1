// Matrix product without barriers, for shapes of any kind: four rows of one column to each lane.
@group(0) @binding(0) var<storage, read> left: array<Element>;
@group(0) @binding(1) var<storage, read> right: array<Element>;
@group(0) @binding(2) var<storage, read_write> product: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let row = lane / parameters.columns * 4u;
  let column = lane % parameters.columns;
  if (row >= parameters.rows) { return; }
  let inner = parameters.inner;
  // rows below the last one repeat it, and are not written
  let begin = min(vec4u(row) + vec4u(0, 1, 2, 3), vec4u(parameters.rows - 1u)) * inner;
  var sum = vec4f(0);
  for (var k = 0u; k < inner; k++) {
    let at = begin + k;
    let four = vec4f(f32(left[at.x]), f32(left[at.y]), f32(left[at.z]), f32(left[at.w]));
    sum += four * f32(right[k * parameters.columns + column]);
  }
  for (var r = 0u; r < min(4u, parameters.rows - row); r++) {
    product[(row + r) * parameters.columns + column] = Element(sum[r]);
  }
}
