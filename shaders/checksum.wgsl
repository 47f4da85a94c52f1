// One level of the 128-bit checksum. The source is cut into units of 16 bytes (the last one padded with zeros) and those
// into runs of lanes x 32 units; stream l of a run takes its units l, l + lanes, l + 2 lanes, … and becomes one unit.
// Each step is a bijection of the state for a given unit, and of the unit for a given state: two streams that differ in one
// unit always differ. Where a stream stands, its level and the length of the whole go in first.
@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> digests: array<vec4u>;

const UNITS = 32u;
const SPREAD = vec4u(0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f);
const TURN = vec4u(0x165667b1, 0xd3a2646d, 0xfd7046c5, 0xb55a4f09);

fn rotate(x: vec4u, places: vec4u) -> vec4u {
  return (x << places) | (x >> (vec4u(32) - places));
}

fn step(state: vec4u, unit: vec4u) -> vec4u {
  var s = rotate(state ^ (unit * SPREAD), vec4u(13, 15, 17, 19)) * TURN;
  let odd = s.yw;
  let even = s.xz + odd;
  let crossed = odd + even.yx;
  return vec4u(even.x, crossed.x, even.y, crossed.y);
}

fn finish(state: vec4u) -> vec4u {
  var s = state;
  for (var round = 0u; round < 3u; round++) {
    s ^= s >> vec4u(15);
    s = step(s, vec4u(round));
    s ^= s >> vec4u(13);
  }
  return s;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let stream = flat_lane(group, groups, local);
  if (stream >= parameters.streams) { return; }
  let lanes = parameters.lanes;
  let whole = parameters.bytes / 16u;
  let units = whole + select(0u, 1u, parameters.bytes % 16u != 0u);
  var at = (stream / lanes) * lanes * UNITS + stream % lanes;
  var state = step(SPREAD, vec4u(stream, parameters.level, parameters.bytes, 0));
  for (var k = 0u; k < UNITS; k++) {
    if (at >= units) { break; }
    var unit = source[at];
    if (at >= whole) {
      // bytes of the last unit that count, word by word: 4 keeps all bits, 0 none
      let kept = clamp(vec4i(i32(parameters.bytes % 16u)) - vec4i(0, 4, 8, 12), vec4i(0), vec4i(4));
      let mask = select((vec4u(1) << (vec4u(kept) * 8u)) - vec4u(1), vec4u(0xffffffff), kept == vec4i(4));
      unit &= mask;
    }
    state = step(state, unit);
    at += lanes;
  }
  digests[stream] = finish(state);
}
