// Walsh-Hadamard transform in workgroup memory: two values to a lane, as many blocks at once as fit.
// WORKGROUP is a power of two, and half a block at least.
override SHARED: u32 = WORKGROUP * 2u;
@group(0) @binding(0) var<storage, read> source: array<Element>;
@group(0) @binding(1) var<storage, read_write> transformed: array<Element>;
var<workgroup> shared_values: array<f32, SHARED>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * SHARED;
  for (var k = local; k < SHARED; k += WORKGROUP) {
    let at = first + k;
    if (at < parameters.values) { shared_values[k] = f32(source[at]) * sign_at(1u, at); }
  }
  workgroupBarrier();
  for (var distance = BLOCK / 2u; distance > 0u; distance /= 2u) {
    let low = (local / distance) * 2u * distance + local % distance;
    let a = shared_values[low];
    let b = shared_values[low + distance];
    shared_values[low] = a + b;
    shared_values[low + distance] = a - b;
    workgroupBarrier();
  }
  for (var k = local; k < SHARED; k += WORKGROUP) {
    let at = first + k;
    if (at < parameters.values) { transformed[at] = Element(shared_values[k] * FACTOR * sign_at(2u, at)); }
  }
}
