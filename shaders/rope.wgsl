// The rotary embedding: pairs of channels of a vector are turned by the angles of its token. The cosine and sine of position
// times frequency are not taken here, as those of large angles differ from adapter to adapter and are coarse: rope.ts takes
// them in f64, of a token within its block of 64 and of the position where the block begins, and the two are joined here.
// A row of the table has turned / 2 cosines and as many sines. Channels behind the first `turned` stay. Four at a time.
override PAIRS: u32;
override PER: u32;
override BESIDE: u32;
const NEIGHBOURS = 1u;
const BLOCK = 64u; // tokens; their rows come first in the table, then those of the blocks
@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read> angles: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> target_units: array<vec4f>;

struct Angle {
  cosine: vec4f,
  sine: vec4f,
}

// Of the pairs that the channels of a quad are in.
fn angle(row: u32, quad: u32) -> Angle {
  let quads = parameters.turned / 8u; // of cosines
  let first = row * quads * 2u;
  if (PAIRS == NEIGHBOURS) {
    let at = first + quad / 2u;
    let later = vec4<bool>(quad % 2u == 1u);
    let both = array(angles[at], angles[at + quads]);
    return Angle(select(both[0].xxyy, both[0].zzww, later), select(both[1].xxyy, both[1].zzww, later));
  }
  let at = first + quad % quads;
  return Angle(angles[at], angles[at + quads]);
}

fn joined(a: Angle, b: Angle) -> Angle {
  return Angle(a.cosine * b.cosine - a.sine * b.sine, a.sine * b.cosine + a.cosine * b.sine);
}

// What is beside each channel of a quad in its pair: minus the second of the first, the first of the second.
fn beside(at: u32, quad: u32) -> vec4f {
  if (PAIRS == NEIGHBOURS) { return source[at].yxwz * vec4f(-1.0, 1.0, -1.0, 1.0); }
  let quads = parameters.turned / 8u;
  if (quad < quads) { return -source[at + quads]; }
  return source[at - quads];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let first = flat_group(group, groups) * WORKGROUP * PER + select(local, local * PER, BESIDE == 1u);
  let stride = select(WORKGROUP, 1u, BESIDE == 1u);
  let end = min(first + PER * stride, parameters.values / 4u);
  let quads = parameters.dim / 4u;
  for (var i = first; i < end; i += stride) {
    let quad = i % quads;
    if (quad * 4u >= parameters.turned) {
      target_units[i] = source[i];
      continue;
    }
    let token = (i / quads + parameters.begun) % parameters.each;
    let whole = joined(angle(BLOCK + parameters.block + token / BLOCK, quad), angle(token % BLOCK, quad));
    target_units[i] = source[i] * whole.cosine + beside(i, quad) * whole.sine;
  }
}
