// Of each channel (or vector) of a block, a lane each: its class in bits 0 to 3; in bit 4 whether some of its values have no
// symbol; its mean in half steps in the upper half. As in core/codec/ec.ts; sums are in f32 in the order of the vectors.
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;

fn mean_of(first: u32, rows: u32, to_mean: f32) -> i32 {
  var sum = 0.0;
  for (var row = 0u; row < rows; row++) {
    let bits = source[first + row * parameters.dim];
    sum += select(0.0, bitcast<f32>(bits), is_finite(bits));
  }
  let halves = sum * to_mean;
  return select(0, i32(round(halves)), (bitcast<u32>(halves) & 0x7fffffffu) <= 0x46fffe00u); // 32767
}

fn scale_of(first: u32, apart: u32, values: u32, mean: i32, step: vec4f) -> u32 {
  var sum = 0u;
  var most = 0u;
  var is_beyond = false;
  for (var i = 0u; i < values; i++) {
    let count = count_of(source[first + i * apart], f32(mean) * (step.x * 0.5), step.y);
    let size = select(u32(abs(count)), 0u, count == BEYOND);
    sum += size;
    most = max(most, size);
    is_beyond = is_beyond || count == BEYOND;
  }
  var own = 0u;
  for (var i = 1u; i < CLASSES; i++) { own = select(own, i, sum * 4096u >= classes[i] * values); }
  let has_apart = is_beyond || (classes[entry_at(own, i32(most))] & 0xffffu) == 0u;
  return own | select(0u, 16u, has_apart) | (u32(mean) << 16u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let per_block = select(parameters.dim, BLOCK, AXIS == 1u);
  let block = lane / per_block;
  if (block * BLOCK >= parameters.vectors) { return; }
  let own = lane % per_block;
  let rows = rows_of(block);
  let first = block * BLOCK * parameters.dim;
  if (AXIS == 1u) {
    if (own >= rows) { return; }
    scales[lane] = scale_of(first + own * parameters.dim, 1u, parameters.dim, 0, steps[block]);
  } else {
    let mean = mean_of(first + own, rows, steps[block].z);
    scales[lane] = scale_of(first + own, parameters.dim, rows, mean, steps[block]);
  }
}
