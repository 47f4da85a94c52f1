// Walsh-Hadamard transform by lanes alone: no barrier, nothing shared. What a lane holds has names, not indices: software
// adapters keep an array in memory and reach each lane's part of it by itself. So a lane transforms 64 values at most: of a
// block of 128 it gives one half, and reads both; for 256 an array costs less than reading everything four times.
@group(0) @binding(0) var<storage, read> source: array<vec4<Element>>;
@group(0) @binding(1) var<storage, read_write> transformed: array<vec4<Element>>;
const QUADS = 16u; // of 64 values
override SHARE = select(BLOCK, 64u, BLOCK == 128u); // values that a lane gives
var<private> parts: array<vec4f, 64>;

struct Four {
  a: vec4f,
  b: vec4f,
  c: vec4f,
  d: vec4f,
}

// Distances of two and of one.
fn across(a: vec4f, b: vec4f, c: vec4f, d: vec4f) -> Four {
  let sums = array(a + c, b + d);
  let differences = array(a - c, b - d);
  return Four(sums[0] + sums[1], sums[0] - sums[1], differences[0] + differences[1], differences[0] - differences[1]);
}

fn within(v: vec4f) -> vec4f {
  let halves = vec4f(v.xy + v.zw, v.xy - v.zw);
  return vec4f(halves.x + halves.y, halves.x - halves.y, halves.z + halves.w, halves.z - halves.w);
}

fn loaded(first: u32, quad: u32) -> vec4f {
  return vec4f(source[first + quad]) * quad_signs(1u, first * 4u, quad);
}

fn put(first: u32, quad: u32, v: vec4f) {
  transformed[first + quad] = vec4<Element>(within(v) * FACTOR * quad_signs(2u, first * 4u, quad));
}

// Distances of 8 values and less.
fn finish(first: u32, quad: u32, a: vec4f, b: vec4f, c: vec4f, d: vec4f) {
  let last = across(a, b, c, d);
  put(first, quad, last.a);
  put(first, quad + 1u, last.b);
  put(first, quad + 2u, last.c);
  put(first, quad + 3u, last.d);
}

// A quad of the 64 values in which distances of 32 and less are left; `part` is which 64 of the block they are.
fn begun(first: u32, part: u32, quad: u32) -> vec4f {
  if (BLOCK == 256u) { return parts[part * QUADS + quad]; }
  let near = loaded(first, quad);
  if (BLOCK == 64u) { return near; }
  let far = loaded(first, QUADS + quad);
  return select(near + far, near - far, part == 1u);
}

fn strided(first: u32, part: u32, quad: u32) -> Four {
  return across(
    begun(first, part, quad), begun(first, part, quad + 4u), begun(first, part, quad + 8u), begun(first, part, quad + 12u),
  );
}

fn sixty_four(first: u32, part: u32) {
  let p = strided(first, part, 0u);
  let q = strided(first, part, 1u);
  let r = strided(first, part, 2u);
  let s = strided(first, part, 3u);
  let to = part * QUADS;
  finish(first, to, p.a, q.a, r.a, s.a);
  finish(first, to + 4u, p.b, q.b, r.b, s.b);
  finish(first, to + 8u, p.c, q.c, r.c, s.c);
  finish(first, to + 12u, p.d, q.d, r.d, s.d);
}

fn thirty_two(first: u32) {
  let p = array(loaded(first, 0u), loaded(first, 1u), loaded(first, 2u), loaded(first, 3u));
  let q = array(loaded(first, 4u), loaded(first, 5u), loaded(first, 6u), loaded(first, 7u));
  finish(first, 0u, p[0] + q[0], p[1] + q[1], p[2] + q[2], p[3] + q[3]);
  finish(first, 4u, p[0] - q[0], p[1] - q[1], p[2] - q[2], p[3] - q[3]);
}

fn two_hundred_fifty_six(first: u32) {
  for (var i = 0u; i < QUADS; i++) {
    let far = across(
      loaded(first, i), loaded(first, i + QUADS), loaded(first, i + 2u * QUADS), loaded(first, i + 3u * QUADS),
    );
    parts[i] = far.a;
    parts[i + QUADS] = far.b;
    parts[i + 2u * QUADS] = far.c;
    parts[i + 3u * QUADS] = far.d;
  }
  for (var part = 0u; part < 4u; part++) { sixty_four(first, part); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  if (lane >= parameters.values / BLOCK * (BLOCK / SHARE)) { return; }
  let first = lane * SHARE / 4u;
  if (BLOCK == 16u) {
    finish(first, 0u, loaded(first, 0u), loaded(first, 1u), loaded(first, 2u), loaded(first, 3u));
  } else if (BLOCK == 32u) {
    thirty_two(first);
  } else if (BLOCK == 256u) {
    two_hundred_fifty_six(first);
  } else {
    let part = lane % (BLOCK / SHARE);
    sixty_four(first - part * QUADS, part);
  }
}
