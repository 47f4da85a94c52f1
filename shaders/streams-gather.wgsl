// Copies each stream from the end of its slot in `work` to its place in the container, TOGETHER lanes to a stream. Nothing is
// written at or above word `end`.
override TOGETHER: u32;
@group(0) @binding(0) var<storage, read> work: array<u32>;
@group(0) @binding(1) var<storage, read_write> container: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = flat_lane(group, groups, local);
  let stream = lane / TOGETHER;
  let streams = parameters.blocks * parameters.perBlock;
  if (stream >= streams) { return; }
  let block = stream / parameters.perBlock;
  let range = stream_range(parameters.directory, parameters.blocks, parameters.perBlock, block, stream % parameters.perBlock);
  let whole = min(range.length, parameters.slot);
  let source = (streams + 3u) / 4u * 4u + (stream + 1u) * parameters.slot - whole;
  let length = min(whole, max(parameters.end, range.first) - range.first);
  for (var i = lane % TOGETHER; i < length; i += TOGETHER) { container[range.first + i] = work[source + i]; }
}
