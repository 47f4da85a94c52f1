// What of f16, bf16 or f32 is not coded, into its place in the container, and behind it the values that make no four. Nothing
// is written at or above word `directory`.
override FORMAT: u32; // 1: f16, 2: bf16, 3: f32
override PER: u32;
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> container: array<u32>;

// Of two values of 16 bits: a byte each.
fn two(word: u32) -> u32 {
  if (FORMAT == 1u) { return (word & 0xffu) | ((word >> 8u) & 0xff00u); }
  return (word & 0x7fu) | ((word >> 8u) & 0x7f80u) | ((word >> 16u) & 0x8000u);
}

fn low_24(word: u32) -> u32 {
  return (word & 0x7fffffu) | ((word >> 8u) & 0x800000u);
}

fn put_word(at: u32, word: u32) {
  if (at < parameters.directory) { container[at] = word; }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let four_bytes = select(8u, 16u, FORMAT == 3u);
  let fours = parameters.bytes / four_bytes;
  let first = lane * PER;
  let end = min(first + PER, fours);
  for (var four = first; four < end; four++) {
    if (FORMAT == 3u) {
      let at = 4u * four;
      let a = low_24(source[at]);
      let b = low_24(source[at + 1u]);
      let c = low_24(source[at + 2u]);
      let d = low_24(source[at + 3u]);
      let to = parameters.rest + 3u * four;
      put_word(to, a | (b << 24u));
      put_word(to + 1u, (b >> 8u) | (c << 16u));
      put_word(to + 2u, (c >> 16u) | (d << 8u));
    } else {
      put_word(parameters.rest + four, two(source[2u * four]) | (two(source[2u * four + 1u]) << 16u));
    }
  }
  if (lane != 0u) { return; }
  let tail_bytes = parameters.bytes % four_bytes;
  for (var i = 0u; 4u * i < tail_bytes; i++) {
    let mask = select(0xffffffffu, 0xffffu, tail_bytes - 4u * i < 4u);
    put_word(parameters.rest + fours * select(1u, 3u, FORMAT == 3u) + i, source[fours * four_bytes / 4u + i] & mask);
  }
}
