// Codes the symbols of f16, bf16 or f32, a stream to each lane: core/codec/lossless.ts says which fours it has. Each stream
// is left at the end of its slot of 356 words.
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read> encoding: array<u32>;
@group(0) @binding(2) var<storage, read_write> work: array<u32>;

const LANES = 32u;
const LANE_FOURS = 256u;
const SLOT = 356u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let stream = flat_lane(group, groups, local);
  let fours = fours_of(parameters.bytes);
  let blocks = (fours + LANES * LANE_FOURS - 1u) / (LANES * LANE_FOURS);
  if (stream >= blocks * LANES) { return; }
  let first = stream / LANES * (LANES * LANE_FOURS);
  let lane = stream % LANES;
  let own = min(fours - first, LANES * LANE_FOURS);
  let lanes = min((own + LANE_FOURS - 1u) / LANE_FOURS, LANES);
  if (lane >= lanes) {
    work[stream] = 0u;
    return;
  }
  let end = slots_at(blocks * LANES) + (stream + 1u) * SLOT;
  open_slot(end - SLOT, end);
  let count = (own - lane + lanes - 1u) / lanes;
  var four = first + lane + count * lanes;
  for (var i = 0u; i < count; i++) {
    four -= lanes;
    let symbols = symbols_of(four);
    put(encoding[symbols >> 24u]);
    put(encoding[(symbols >> 16u) & 0xffu]);
    put(encoding[(symbols >> 8u) & 0xffu]);
    put(encoding[symbols & 0xffu]);
  }
  work[stream] = end - close_slot();
}
