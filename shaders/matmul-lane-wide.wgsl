// Matrix product without barriers, four rows by four columns to each lane; inner and columns are multiples of four.
@group(0) @binding(0) var<storage, read> left: array<Wide>;
@group(0) @binding(1) var<storage, read> right: array<Wide>;
@group(0) @binding(2) var<storage, read_write> product: array<Wide>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let columns = parameters.columns / 4u;
  let row = lane / columns * 4u;
  let column = lane % columns;
  if (row >= parameters.rows) { return; }
  let inner = parameters.inner / 4u;
  // rows below the last one repeat it, and are not written
  let begin = min(vec4u(row) + vec4u(0, 1, 2, 3), vec4u(parameters.rows - 1u)) * inner;
  var s0 = vec4f(0);
  var s1 = vec4f(0);
  var s2 = vec4f(0);
  var s3 = vec4f(0);
  var at = column;
  for (var k = 0u; k < inner; k++) {
    let b0 = vec4f(right[at]);
    let b1 = vec4f(right[at + columns]);
    let b2 = vec4f(right[at + 2u * columns]);
    let b3 = vec4f(right[at + 3u * columns]);
    at += 4u * columns;
    let a0 = vec4f(left[begin.x + k]);
    let a1 = vec4f(left[begin.y + k]);
    let a2 = vec4f(left[begin.z + k]);
    let a3 = vec4f(left[begin.w + k]);
    s0 += a0.x * b0 + a0.y * b1 + a0.z * b2 + a0.w * b3;
    s1 += a1.x * b0 + a1.y * b1 + a1.z * b2 + a1.w * b3;
    s2 += a2.x * b0 + a2.y * b1 + a2.z * b2 + a2.w * b3;
    s3 += a3.x * b0 + a3.y * b1 + a3.z * b2 + a3.w * b3;
  }
  let out = row * columns + column;
  product[out] = Wide(s0);
  if (row + 1u < parameters.rows) { product[out + columns] = Wide(s1); }
  if (row + 2u < parameters.rows) { product[out + 2u * columns] = Wide(s2); }
  if (row + 3u < parameters.rows) { product[out + 3u * columns] = Wide(s3); }
}
