// A lane encodes a vector: formats without a search. No barrier, nothing shared.
struct Measure { largest: u32, exponent: i32, squares: u32 }

fn measured(vector: u32) -> Measure {
  var largest = 0u;
  for (var i = 0u; i < DIM; i++) { largest = max(largest, vectors[vector + i] & 0x7fffffffu); }
  let exponent = exponent_of(largest);
  var squares = 0u;
  if (exponent >= EXPONENT_MIN && exponent <= EXPONENT_MAX && CODEC == TQ4) {
    for (var i = 0u; i < DIM; i++) { squares += square_on_grid(vectors[vector + i], exponent); }
  }
  return Measure(largest, exponent, squares);
}

fn four_values(at: u32) -> vec4u {
  return vec4u(vectors[at], vectors[at + 1u], vectors[at + 2u], vectors[at + 3u]);
}

fn encode_sixteen_bits(vector: u32, record: u32) {
  for (var i = 0u; i < DIM; i += 4u) {
    let bits = four_values(vector + i);
    var halves: vec4u;
    if (CODEC == F16) { halves = to_f16(bits); } else { halves = to_bf16(bits); }
    let pairs = halves.xz | (halves.yw << vec2u(16));
    pages[record + i / 2u] = pairs.x;
    pages[record + i / 2u + 1u] = pairs.y;
  }
}

/** A record of one scale code and nothing else. */
fn encode_blank(record: u32, first: u32) {
  pages[record] = first;
  for (var word = 1u; word < record_words(CODEC, DIM); word++) { pages[record + word] = 0u; }
}

/** How many bounds of the ladder, each `step` apart, are not above this; core/codec/q8r.ts has the levels. */
fn q8r_index(target_level: i32, step: i32) -> u32 {
  let rest = 65536 + 3 * (step / 2) * (step / 2);
  var index = 0;
  for (var half = 256 / step; half >= 1; half /= 2) {
    let middle = step * (index + half) - 256;
    index += select(0, half, middle * (rest + middle * middle) <= target_level);
  }
  return u32(index);
}

fn encode_q8r(vector: u32, record: u32) {
  let measure = measured(vector);
  if (measure.exponent > EXPONENT_MAX) { encode_blank(record, NOT_FINITE_CODE); return; }
  let code = code_of_largest(measure.largest, measure.exponent);
  if (measure.exponent < EXPONENT_MIN || code < 1) { encode_blank(record, ZERO_CODE); return; }
  let per_target = per_unit(measure.exponent, code, 25);
  var low = u32(min(code, CODE_MAX));
  var high = 0u;
  for (var i = 0u; i < 8u; i++) {
    let index = q8r_index(q8r_target(vector + i, measure.exponent, per_target), 4);
    let at = 8u + 7u * i;
    if (at < 32u) { low |= index << at; }
    if (at >= 32u) { high |= index << (at - 32u); } else if (at > 25u) { high |= index >> (32u - at); }
  }
  pages[record] = low;
  pages[record + 1u] = high;
  for (var word = 2u; word < DIM / 4u; word++) {
    var bytes = 0u;
    for (var i = 0u; i < 4u; i++) {
      bytes |= q8r_index(q8r_target(vector + word * 4u + i, measure.exponent, per_target), 2) << (8u * i);
    }
    pages[record + word] = bytes;
  }
}

fn q8r_target(value: u32, exponent: i32, per_target: f32) -> i32 {
  return i32(below_one(vectors[value], exponent) * per_target);
}

fn tq4_scale(measure: Measure) -> f32 {
  var root = u32(sqrt(f32(measure.squares)));
  if (root * root > measure.squares) { root--; }
  if ((root + 1u) * (root + 1u) <= measure.squares) { root++; }
  let rms = f32(root) * (per_root_of_dim() * power_of_2(measure.exponent - 11));
  let largest = bitcast<f32>(measure.largest);
  return select(rms, largest * (4194304.0 / 11440500.0), largest > 4.0 * rms);
}

/** 1 / sqrt(DIM), to the nearest: an adapter's own may be another. */
fn per_root_of_dim() -> f32 {
  if (DIM == 64u) { return 0.125; }
  if (DIM == 80u) { return 0.1118034; }
  if (DIM == 96u) { return 0.10206208; }
  if (DIM == 128u) { return 0.088388346; }
  return 0.0625;
}

fn encode_tq4(vector: u32, record: u32) {
  let measure = measured(vector);
  if (measure.exponent > EXPONENT_MAX) { encode_blank(record, 0x7fc00000u); return; }
  if (measure.exponent < EXPONENT_MIN) { encode_blank(record, 0u); return; }
  let scale = tq4_scale(measure);
  // no product, which might be taken together with the next; core/codec/tq4.ts has the levels
  let unit = bitcast<f32>(bitcast<u32>(scale) - (22u << 23u));
  let bounds = vec4f(1106936, 2221168, 3365352, 4592864) * unit;
  let outer = vec3f(6003160, 7757136, 10092488) * unit;
  pages[record] = bitcast<u32>(scale);
  for (var octet = 0u; octet < DIM / 8u; octet++) {
    var word = 0u;
    for (var i = 0u; i < 8u; i++) {
      let value = bitcast<f32>(vectors[vector + octet * 8u + i]);
      let size = abs(value);
      let beyond = dot(select(vec4u(0), vec4u(1), vec4f(size) >= bounds), vec4u(1))
        + dot(select(vec3u(0), vec3u(1), vec3f(size) >= outer), vec3u(1));
      word |= select(8u + beyond, 7u - beyond, value < 0.0) << (4u * i);
    }
    pages[record + 1u + octet] = word;
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = flat_lane(group, groups, local);
  if (i >= parameters.vectors) { return; }
  let vector = source_of(i);
  let record = target_of(i);
  if (CODEC == F32) {
    for (var word = 0u; word < DIM; word++) { pages[record + word] = vectors[vector + word]; }
  } else if (CODEC == F16 || CODEC == BF16) {
    encode_sixteen_bits(vector, record);
  } else if (CODEC == Q8R) {
    encode_q8r(vector, record);
  } else {
    encode_tq4(vector, record);
  }
}
