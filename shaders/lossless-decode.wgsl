// Decodes f16, bf16 or f32, a stream to each lane, and joins what was apart (core/codec/lossless.ts). A lane says 1 in
// `faults` if its stream did not end as it must, else 0; bytes of the target behind the content keep what they hold.
override FORMAT: u32; // 1: f16, 2: bf16, 3: f32
@group(0) @binding(0) var<storage, read> container: array<u32>;
@group(0) @binding(1) var<storage, read> decoding: array<u32>;
@group(0) @binding(2) var<storage, read_write> content: array<u32>;
@group(0) @binding(3) var<storage, read_write> faults: array<u32>;

const LANES = 32u;
const LANE_FOURS = 256u;

fn next() -> u32 {
  let entry = decoding[state & 0x7ffu];
  take(entry);
  return entry & 0xffu;
}

// Two values of 16 bits, of their symbols and two bytes of the rest.
fn joined(low: u32, high: u32, rest: u32) -> u32 {
  if (FORMAT == 1u) { return (rest & 0xffu) | (low << 8u) | ((rest & 0xff00u) << 8u) | (high << 24u); }
  return (rest & 0x7fu) | (low << 7u) | ((rest & 0x80u) << 8u) | ((rest & 0x7f00u) << 8u) | (high << 23u) | ((rest & 0x8000u) << 16u);
}

fn whole(exponent: u32, rest: u32) -> u32 {
  return (exponent << 23u) | (rest & 0x7fffffu) | ((rest & 0x800000u) << 8u);
}

fn rest_word(at: u32) -> u32 {
  return container[min(parameters.rest + at, parameters.end - 1u)];
}

fn put_four(four: u32, a: u32, b: u32, c: u32, d: u32) {
  if (FORMAT == 3u) {
    let x = rest_word(3u * four);
    let y = rest_word(3u * four + 1u);
    let z = rest_word(3u * four + 2u);
    content[4u * four] = whole(a, x);
    content[4u * four + 1u] = whole(b, (x >> 24u) | (y << 8u));
    content[4u * four + 2u] = whole(c, (y >> 16u) | (z << 16u));
    content[4u * four + 3u] = whole(d, z >> 8u);
  } else {
    let rest = rest_word(four);
    content[2u * four] = joined(a, b, rest & 0xffffu);
    content[2u * four + 1u] = joined(c, d, rest >> 16u);
  }
}

fn put_tail(fours: u32) {
  let four_bytes = select(8u, 16u, FORMAT == 3u);
  let tail_bytes = parameters.bytes % four_bytes;
  for (var i = 0u; 4u * i < tail_bytes; i++) {
    let mask = select(0xffffffffu, 0xffffu, tail_bytes - 4u * i < 4u);
    let at = fours * four_bytes / 4u + i;
    content[at] = (rest_word(fours * select(1u, 3u, FORMAT == 3u) + i) & mask) | (content[at] & ~mask);
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let stream = flat_lane(group, groups, local);
  let fours = parameters.bytes / select(8u, 16u, FORMAT == 3u);
  let blocks = (fours + LANES * LANE_FOURS - 1u) / (LANES * LANE_FOURS);
  if (stream >= blocks * LANES) { return; }
  if (stream == 0u) { put_tail(fours); }
  let block = stream / LANES;
  let first = block * (LANES * LANE_FOURS);
  let lane = stream % LANES;
  let own = min(fours - first, LANES * LANE_FOURS);
  let lanes = min((own + LANE_FOURS - 1u) / LANE_FOURS, LANES);
  let range = stream_range(parameters.directory, blocks, LANES, block, lane);
  if (lane >= lanes) {
    faults[stream] = select(0u, 1u, range.length != 0u);
    return;
  }
  open_stream(range.first, parameters.end);
  let count = (own - lane + lanes - 1u) / lanes;
  for (var i = 0u; i < count; i++) {
    let a = next();
    let b = next();
    let c = next();
    put_four(first + lane + i * lanes, a, b, c, next());
  }
  let is_good = state == 0x8000u && half == 2u * (range.first + range.length) && range.first + range.length <= parameters.end;
  faults[stream] = select(1u, 0u, is_good);
}
