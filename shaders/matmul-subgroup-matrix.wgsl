// Matrix product on subgroup matrices (tensor cores), f16 in, sums in f32: 64 x 64 to a workgroup in four quadrants of
// 32 x 32, which its subgroups share out. Rows and columns are multiples of 64, inner of 16.
override WORKGROUP: u32;
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;
@group(0) @binding(0) var<storage, read> left: array<f16>;
@group(0) @binding(1) var<storage, read> right: array<f16>;
@group(0) @binding(2) var<storage, read_write> product: array<f16>;
var<workgroup> tile: array<f32, 4096>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32,
) {
  let inner = parameters.inner;
  let columns = parameters.columns;
  for (var quadrant = subgroup; quadrant < 4u; quadrant += subgroups) {
    let down = (quadrant / 2u) * 32u;
    let across = (quadrant % 2u) * 32u;
    let row = group.y * 64u + down;
    let column = group.x * 64u + across;
    var s00: Sums;
    var s01: Sums;
    var s10: Sums;
    var s11: Sums;
    for (var k = 0u; k < inner; k += 16u) {
      let a0 = subgroupMatrixLoad<Left, row_major>(&left, row * inner + k, inner);
      let a1 = subgroupMatrixLoad<Left, row_major>(&left, (row + 16u) * inner + k, inner);
      let b0 = subgroupMatrixLoad<Right, row_major>(&right, k * columns + column, columns);
      let b1 = subgroupMatrixLoad<Right, row_major>(&right, k * columns + column + 16u, columns);
      s00 = subgroupMatrixMultiplyAccumulate(a0, b0, s00);
      s01 = subgroupMatrixMultiplyAccumulate(a0, b1, s01);
      s10 = subgroupMatrixMultiplyAccumulate(a1, b0, s10);
      s11 = subgroupMatrixMultiplyAccumulate(a1, b1, s11);
    }
    subgroupMatrixStore<row_major>(&tile, down * 64u + across, s00, 64u);
    subgroupMatrixStore<row_major>(&tile, down * 64u + across + 16u, s01, 64u);
    subgroupMatrixStore<row_major>(&tile, (down + 16u) * 64u + across, s10, 64u);
    subgroupMatrixStore<row_major>(&tile, (down + 16u) * 64u + across + 16u, s11, 64u);
  }
  workgroupBarrier();
  for (var i = local; i < 4096u; i += WORKGROUP) {
    product[(group.y * 64u + i / 64u) * columns + group.x * 64u + i % 64u] = f16(tile[i]);
  }
}
