// Codes blocks of core/codec/ec.ts, a lane to each stream of symbols, and one for each block's scale; every stream is left at
// the end of its slot of 2404 words. Lanes of scales come last, so that those beside one another do the same.
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> work: array<u32>;

const SLOT = 2404u;

fn scale_at(block: u32, row: u32, channel: u32) -> u32 {
  if (AXIS == 1u) { return scales[block * BLOCK + row]; }
  return scales[block * parameters.dim + channel];
}

fn coded(block: u32, row: u32, channel: u32, step: vec4f) -> u32 {
  let scale = scale_at(block, row, channel);
  let mean = f32(bitcast<i32>(scale) >> 16u) * (step.x * 0.5);
  let bits = source[(block * BLOCK + row) * parameters.dim + channel];
  return entry_at(scale & 0xfu, count_of(bits, mean, step.y));
}

// Of the i-th value that a lane has.
fn channel_of(i: u32, lane: u32, lanes: u32) -> u32 {
  return 4u * (lane + i % 16u / 4u * lanes) + i % 4u;
}

// Whether any value of this lane may have no symbol.
fn may_stand_apart(block: u32, lane: u32, lanes: u32) -> bool {
  var any = 0u;
  if (AXIS == 1u) {
    for (var row = 0u; row < rows_of(block); row++) { any |= scale_at(block, row, 0u); }
  } else {
    for (var i = 0u; i < parameters.dim / lanes; i++) { any |= scale_at(block, 0u, channel_of(i, lane, lanes)); }
  }
  return (any & 16u) != 0u;
}

// Backwards from `end`: place and bits of each value that has no symbol. Gives where they begin.
fn put_apart(block: u32, lane: u32, lanes: u32, step: vec4f, end: u32) -> u32 {
  var at = end;
  for (var i = rows_of(block) * 16u; i > 0u; i--) {
    let row = (i - 1u) / 16u;
    let channel = channel_of(i - 1u, lane, lanes);
    if ((classes[coded(block, row, channel, step)] & 0xffffu) == 0u) {
      at -= 2u;
      work[at] = row * parameters.dim + channel;
      work[at + 1u] = source[(block * BLOCK + row) * parameters.dim + channel];
    }
  }
  return at;
}

fn encode(block: u32, lane: u32, lanes: u32, stream: u32, slots: u32) {
  let end = slots + (stream + 1u) * SLOT;
  let step = steps[block];
  var own_end = end;
  if (may_stand_apart(block, lane, lanes)) { own_end = put_apart(block, lane, lanes, step, end); }
  open_slot(end - SLOT, own_end);
  for (var i = rows_of(block) * 16u; i > 0u; i--) {
    let at = coded(block, (i - 1u) / 16u, channel_of(i - 1u, lane, lanes), step);
    let entry = classes[at];
    put(select(entry, classes[(at - CLASSES) / 256u * 256u + CLASSES + 128u], (entry & 0xffffu) == 0u));
  }
  work[stream] = end - close_slot();
}

// A word of fields side by side, of `bits` bits each: means, shifted to be positive, or classes.
fn packed(block: u32, word: u32, bits: u32, fields: u32, is_mean: bool) -> u32 {
  var result = 0u;
  let per_word = 32u / bits;
  for (var i = 0u; i < per_word && word * per_word + i < fields; i++) {
    let field = word * per_word + i;
    let scale = select(scale_at(block, field, 0u), scale_at(block, 0u, field), AXIS == 0u);
    let mean = u32((bitcast<i32>(scale) >> 16u) + i32(1u << (bits - 1u)));
    result |= select(scale & 0xfu, mean, is_mean) << (i * bits);
  }
  return result;
}

fn words_of(fields: u32, bits: u32) -> u32 {
  let per_word = 32u / max(bits, 1u);
  return select((fields + per_word - 1u) / per_word, 0u, bits == 0u);
}

fn pack_scale(block: u32, stream: u32, slots: u32) {
  var fields = rows_of(block);
  var most = 0u;
  if (AXIS == 0u) {
    fields = parameters.dim;
    for (var i = 0u; i < fields; i++) { most = max(most, u32(abs(bitcast<i32>(scale_at(block, 0u, i)) >> 16u))); }
  }
  let bits = select(33u - countLeadingZeros(most), 0u, most == 0u);
  let class_words = words_of(fields, 4u);
  let words = 1u + class_words + words_of(fields, bits);
  let first = slots + (stream + 1u) * SLOT - words;
  work[stream] = words;
  work[first] = bitcast<u32>(steps[block].x) | bits;
  for (var i = 1u; i < words; i++) {
    let is_mean = i > class_words;
    work[first + i] = packed(block, i - 1u - select(0u, class_words, is_mean), select(4u, bits, is_mean), fields, is_mean);
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let index = flat_lane(group, groups, local);
  let lanes = parameters.dim / 16u;
  let blocks = (parameters.vectors + BLOCK - 1u) / BLOCK;
  let slots = slots_at(blocks * (lanes + 1u));
  if (index < blocks * lanes) {
    let block = index / lanes;
    encode(block, index % lanes, lanes, block * (lanes + 1u) + 1u + index % lanes, slots);
  } else if (index < blocks * (lanes + 1u)) {
    let block = index - blocks * lanes;
    pack_scale(block, block * (lanes + 1u), slots);
  }
}
