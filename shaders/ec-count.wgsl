// How many steps a value lies from a mean, as core/codec/ec.ts counts them; -128 where no count stands for it. All tests are of
// bits: what is not finite may be taken for anything else once it is a float.
override AXIS: u32; // 0: channels, 1: vectors
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> steps: array<vec4f>; // of a block: its step, the inverse, what makes a sum half steps

const BLOCK = 64u;
const BEYOND = -128;
// of the binding `classes`: where a class begins, in 4096ths of a step, then 256 words to encode by, for each of 16
const CLASSES = 16u;

fn is_finite(bits: u32) -> bool {
  return (bits & 0x7f800000u) != 0x7f800000u;
}

fn count_of(bits: u32, mean: f32, inverse: f32) -> i32 {
  let steps = (bitcast<f32>(bits) - mean) * inverse;
  let is_near = (bitcast<u32>(steps) & 0x7fffffffu) < 0x42ff0000u; // 127.5
  return select(BEYOND, i32(round(steps)), is_near && is_finite(bits));
}

fn entry_at(own: u32, count: i32) -> u32 {
  return CLASSES + own * 256u + u32(count + 128);
}

fn rows_of(block: u32) -> u32 {
  return min(parameters.vectors - block * BLOCK, BLOCK);
}
