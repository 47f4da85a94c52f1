// Partial results of the same rows, merged by their log-sum-exps: what attention over all their tokens at once would give.
// A partial result is the outputs of all rows, then their log-sum-exps. Eight dimensions of a row to each lane.
override DIM: u32;
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> merged: array<f32>;
const NOTHING = -1e30;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let lanes = DIM / 8u;
  let row = lane / lanes;
  if (row >= parameters.rows) { return; }
  let apart = parameters.apart;
  let exponents = parameters.rows * DIM + row;
  var largest = NOTHING;
  for (var p = 0u; p < parameters.parts; p++) { largest = max(largest, partials[p * apart + exponents]); }
  // side by side over the lanes of a row: these four dimensions, and four more half a row on
  let first = row * DIM + lane % lanes * 4u;
  let second = first + DIM / 2u;
  var low = vec4f(0);
  var high = vec4f(0);
  var sum = 0.0;
  for (var p = 0u; p < parameters.parts; p++) {
    let from_part = p * apart;
    let weight = exp(partials[from_part + exponents] - largest);
    sum += weight;
    let a = from_part + first;
    let b = from_part + second;
    low += weight * vec4f(partials[a], partials[a + 1u], partials[a + 2u], partials[a + 3u]);
    high += weight * vec4f(partials[b], partials[b + 1u], partials[b + 2u], partials[b + 3u]);
  }
  let share = 1.0 / sum;
  for (var i = 0u; i < 4u; i++) {
    merged[first + i] = low[i] * share;
    merged[second + i] = high[i] * share;
  }
  if (lane % lanes != 0u) { return; }
  let shift = select(0.0, bias[row], parameters.biased != 0u);
  merged[exponents] = select(NOTHING, largest + log(sum) + shift, largest > NOTHING);
}
