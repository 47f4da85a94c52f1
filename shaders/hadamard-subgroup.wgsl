// Walsh-Hadamard transform in registers: a subgroup takes a block (or as many as it has lanes for); lane l holds the values
// l, l + lanes, l + 2 lanes, …: distances below the number of lanes are shuffles, those above are the lane's own.
override WORKGROUP: u32;
@group(0) @binding(0) var<storage, read> source: array<Element>;
@group(0) @binding(1) var<storage, read_write> transformed: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32, @builtin(subgroup_size) lanes: u32, @builtin(subgroup_invocation_id) lane: u32,
) {
  let held = max(BLOCK / lanes, 1u);
  var x: array<f32, 64>;
  let span = held * lanes;
  for (var first = (group.x * subgroups + subgroup) * span; first < parameters.values; first += groups.x * subgroups * span) {
    for (var k = 0u; k < held; k++) {
      let at = first + k * lanes + lane;
      x[k] = 0f;
      if (at < parameters.values) { x[k] = f32(source[at]) * sign_at(1u, at); }
    }
    for (var distance = held / 2u; distance > 0u; distance /= 2u) {
      for (var k = 0u; k < held / 2u; k++) {
        let low = (k / distance) * 2u * distance + k % distance;
        let a = x[low];
        let b = x[low + distance];
        x[low] = a + b;
        x[low + distance] = a - b;
      }
    }
    for (var distance = min(BLOCK, lanes) / 2u; distance > 0u; distance /= 2u) {
      let sign = select(1f, -1f, (lane & distance) != 0u);
      for (var k = 0u; k < held; k++) { x[k] = sign * x[k] + subgroupShuffleXor(x[k], distance); }
    }
    for (var k = 0u; k < held; k++) {
      let at = first + k * lanes + lane;
      if (at < parameters.values) { transformed[at] = Element(x[k] * FACTOR * sign_at(2u, at)); }
    }
  }
}
