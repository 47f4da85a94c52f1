// Matrix product by tiles in workgroup memory, for shapes of any kind: 256 lanes compute 64 x 64, four by four to each,
// sixteen steps of the inner dimension between barriers. What lies outside the matrices is read as zero.
override WORKGROUP: u32;
@group(0) @binding(0) var<storage, read> left: array<Element>;
@group(0) @binding(1) var<storage, read> right: array<Element>;
@group(0) @binding(2) var<storage, read_write> product: array<Element>;

const DEPTH = 16u;
// one more quad to a row: lanes that read down a column then hit different banks
var<workgroup> left_tile: array<array<vec4f, 17>, DEPTH>; // [k][row / 4]
var<workgroup> right_tile: array<array<vec4f, 17>, DEPTH>; // [k][column / 4]

fn left_at(row: u32, k: u32) -> f32 {
  if (row >= parameters.rows || k >= parameters.inner) { return 0f; }
  return f32(left[row * parameters.inner + k]);
}

fn right_at(k: u32, column: u32) -> f32 {
  if (k >= parameters.inner || column >= parameters.columns) { return 0f; }
  return f32(right[k * parameters.columns + column]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = group.y * 64u;
  let column = group.x * 64u;
  let x = local % 16u;
  let y = local / 16u;
  var s0 = vec4f(0);
  var s1 = vec4f(0);
  var s2 = vec4f(0);
  var s3 = vec4f(0);
  for (var k = 0u; k < parameters.inner; k += DEPTH) {
    let r = row + y * 4u;
    left_tile[x][y] = vec4f(left_at(r, k + x), left_at(r + 1u, k + x), left_at(r + 2u, k + x), left_at(r + 3u, k + x));
    let c = column + x * 4u;
    right_tile[y][x] = vec4f(right_at(k + y, c), right_at(k + y, c + 1u), right_at(k + y, c + 2u), right_at(k + y, c + 3u));
    workgroupBarrier();
    for (var d = 0u; d < DEPTH; d++) {
      let a = left_tile[d][y];
      let b = right_tile[d][x];
      s0 += a.x * b;
      s1 += a.y * b;
      s2 += a.z * b;
      s3 += a.w * b;
    }
    workgroupBarrier();
  }
  put(row + y * 4u, column + x * 4u, s0);
  put(row + y * 4u + 1u, column + x * 4u, s1);
  put(row + y * 4u + 2u, column + x * 4u, s2);
  put(row + y * 4u + 3u, column + x * 4u, s3);
}

fn put(row: u32, column: u32, sums: vec4f) {
  if (row >= parameters.rows) { return; }
  for (var k = 0u; k < 4u; k++) {
    if (column + k < parameters.columns) { product[row * parameters.columns + column + k] = Element(sums[k]); }
  }
}
