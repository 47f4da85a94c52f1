// Decodes blocks of core/codec/ec.ts, a stream to each lane, the same bits as there: a count times a gain times a step is
// exact in f32, and so is a mean. A lane says 1 in `faults` if its stream did not end as it must, else 0.
override AXIS: u32; // 0: channels, 1: vectors
@group(0) @binding(0) var<storage, read> container: array<u32>;
@group(0) @binding(1) var<storage, read> classes: array<u32>; // gains of 16 classes, then 2048 words to decode by for each
@group(0) @binding(2) var<storage, read_write> content: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> faults: array<u32>;

const BLOCK = 64u;
const HEADER = 4u;
const CLASSES = 16u;

fn word_at(at: u32) -> u32 {
  return container[min(at, parameters.end - 1u)];
}

// Of four channels beside one another (or of a vector): where their tables begin, what a count is multiplied by, their means.
struct Scale { tables: vec4u, gains: vec4f, means: vec4f }

fn scale_of(own: vec4u, means: vec4f, step: f32) -> Scale {
  let gains = vec4f(f32(classes[own.x]), f32(classes[own.y]), f32(classes[own.z]), f32(classes[own.w]));
  return Scale(CLASSES + own * 2048u, gains * (step / 256.0), means);
}

fn vector_scale(first: u32, row: u32, step: f32) -> Scale {
  return scale_of(vec4u((word_at(first + 1u + row / 8u) >> (4u * (row & 7u))) & 0xfu), vec4f(0), step);
}

// From a channel on that is a multiple of four.
fn channel_scale(first: u32, channel: u32, step: f32, bits: u32) -> Scale {
  let classes_of_four = word_at(first + 1u + channel / 8u) >> (4u * (channel & 4u));
  var means = vec4f(0);
  if (bits > 0u) {
    let per_word = vec4u(32u / bits);
    let index = vec4u(channel) + vec4u(0, 1, 2, 3);
    let at = index / per_word + vec4u(first + 1u + (parameters.dim + 7u) / 8u);
    let words = vec4u(word_at(at.x), word_at(at.y), word_at(at.z), word_at(at.w));
    let fields = (words >> (index % per_word * bits)) & vec4u((1u << bits) - 1u);
    means = vec4f(vec4i(fields) - vec4i(i32(1u << (bits - 1u)))) * (step * 0.5);
  }
  return scale_of((vec4u(classes_of_four) >> vec4u(0, 4, 8, 12)) & vec4u(0xf), means, step);
}

fn next(table: u32) -> u32 {
  let entry = classes[table + (state & 0x7ffu)];
  take(entry);
  return entry & 0xffu;
}

fn four(scale: Scale) -> vec4u {
  let a = next(scale.tables.x);
  let b = next(scale.tables.y);
  let c = next(scale.tables.z);
  let counts = vec4i(vec4u(a, b, c, next(scale.tables.w))) - vec4i(128);
  return bitcast<vec4u>(vec4f(counts) * scale.gains + scale.means);
}

// Values that stand apart, from the first word after the units on. Gives whether all are as they must be.
fn put_apart(first: u32, lane: u32, lanes: u32, begin: u32, end: u32, values: u32) -> bool {
  var is_good = (half & 1u) == 0u && begin <= end && (end - begin) % 2u == 0u;
  for (var at = begin; is_good && at < end; at += 2u) {
    let place = word_at(at);
    is_good = place < values && (place % parameters.dim / 4u) % lanes == lane;
    if (is_good) { content[(first + place) / 4u][place % 4u] = word_at(at + 1u); }
  }
  return is_good;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let index = flat_lane(group, groups, local);
  let lanes = parameters.dim / 16u;
  let blocks = (parameters.vectors + BLOCK - 1u) / BLOCK;
  if (index >= blocks * lanes) { return; }
  let block = index / lanes;
  let lane = index % lanes;
  let scale_range = stream_range(HEADER, blocks, lanes + 1u, block, 0u);
  let range = stream_range(HEADER, blocks, lanes + 1u, block, lane + 1u);
  let head = word_at(scale_range.first);
  let step = bitcast<f32>(head & 0xffff0000u);
  let bits = min(head & 0xffffu, 16u);
  let rows = min(parameters.vectors - block * BLOCK, BLOCK);
  let first = block * BLOCK * parameters.dim;
  open_stream(range.first, parameters.end);
  if (AXIS == 0u) {
    let a = channel_scale(scale_range.first, 4u * lane, step, bits);
    let b = channel_scale(scale_range.first, 4u * (lane + lanes), step, bits);
    let c = channel_scale(scale_range.first, 4u * (lane + 2u * lanes), step, bits);
    let d = channel_scale(scale_range.first, 4u * (lane + 3u * lanes), step, bits);
    for (var at = first / 4u + lane; at < (first + rows * parameters.dim) / 4u; at += 4u * lanes) {
      content[at] = four(a);
      content[at + lanes] = four(b);
      content[at + 2u * lanes] = four(c);
      content[at + 3u * lanes] = four(d);
    }
  } else {
    var at = first / 4u + lane;
    for (var row = 0u; row < rows; row++) {
      let own = vector_scale(scale_range.first, row, step);
      for (let row_end = at + 4u * lanes; at < row_end; at += lanes) { content[at] = four(own); }
    }
  }
  let end = range.first + range.length;
  let is_good = state == 0x8000u && end <= parameters.end && put_apart(first, lane, lanes, half / 2u, end, rows * parameters.dim);
  faults[index] = select(1u, 0u, is_good);
}
