// Softmax over the tokens of a chunk, for each quad of rows: their weights, relative to the largest score, and behind them
// the weights' sum and the log-sum-exp of the scores. A chunk to each lane, no barrier.
const PAGE_TOKENS = 64u;
const NOTHING = -1e30;
@group(0) @binding(0) var<storage, read> scores: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4f>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let chunks = (parameters.pages + parameters.chunk - 1u) / parameters.chunk;
  let quad = lane / chunks;
  if (quad >= parameters.quads) { return; }
  let first = lane % chunks * parameters.chunk;
  let count = min(parameters.chunk, parameters.pages - first) * PAGE_TOKENS;
  let begin = (quad * parameters.pages + first) * PAGE_TOKENS;
  let to = quad * (parameters.pages * PAGE_TOKENS + chunks * 2u) + lane % chunks * (parameters.chunk * PAGE_TOKENS + 2u);
  var largest = vec4f(NOTHING);
  for (var t = 0u; t < count; t++) { largest = max(largest, scores[begin + t]); }
  // where nothing is seen every difference is zero: those weights are none
  let some = select(vec4f(0), vec4f(1), largest > vec4f(NOTHING));
  var sum = vec4f(0);
  for (var t = 0u; t < count; t++) {
    let weight = exp(scores[begin + t] - largest) * some;
    weights[to + t] = weight;
    sum += weight;
  }
  let last = to + count;
  weights[last] = sum;
  weights[last + 1u] = select(vec4f(NOTHING), largest + log(max(sum, vec4f(1))), some > vec4f(0));
}
