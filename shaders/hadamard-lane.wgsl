// Walsh-Hadamard transform, a block to each lane: no barrier, nothing shared, the block in the lane's own memory.
@group(0) @binding(0) var<storage, read> source: array<vec4<Element>>;
@group(0) @binding(1) var<storage, read_write> transformed: array<vec4<Element>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let block = flat_lane(group, groups, local);
  if (block >= parameters.values / BLOCK) { return; }
  let quads = BLOCK / 4u;
  var x: array<vec4f, 64>;
  for (var i = 0u; i < quads; i++) {
    let v = vec4f(source[block * quads + i]) * signs_at(1u, block * BLOCK + i * 4u);
    let near = vec4f(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    x[i] = vec4f(near.xy + near.zw, near.xy - near.zw);
  }
  for (var distance = 1u; distance < quads; distance *= 2u) {
    for (var low = 0u; low < quads; low += 2u * distance) {
      for (var i = low; i < low + distance; i++) {
        let a = x[i];
        let b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
      }
    }
  }
  for (var i = 0u; i < quads; i++) {
    transformed[block * quads + i] = vec4<Element>(x[i] * factor() * signs_at(2u, block * BLOCK + i * 4u));
  }
}
