// From the lengths of all streams, which stand first in `work`, the directory (core/codec/rans-streams.ts), by one workgroup:
// each lane adds up the lengths of a run of blocks, then all those of the lanes before it.
override WORKGROUP: u32;
@group(0) @binding(0) var<storage, read> work: array<u32>;
@group(0) @binding(1) var<storage, read_write> container: array<u32>;
var<workgroup> sums: array<u32, WORKGROUP>;

fn block_words(block: u32) -> u32 {
  var sum = 0u;
  for (var lane = 0u; lane < parameters.perBlock; lane++) { sum += work[block * parameters.perBlock + lane]; }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  let run = (parameters.blocks + WORKGROUP - 1u) / WORKGROUP;
  let begin = local * run;
  let end = min(begin + run, parameters.blocks);
  var sum = 0u;
  for (var block = begin; block < end; block++) { sum += block_words(block); }
  sums[local] = sum;
  workgroupBarrier();
  var first = 0u;
  for (var i = 0u; i < local; i++) { first += sums[i]; }
  let halves = (parameters.perBlock + 1u) / 2u;
  for (var block = begin; block < end; block++) {
    let entry = parameters.directory + block * (1u + halves);
    container[entry] = first;
    for (var pair = 0u; pair < halves; pair++) {
      let at = block * parameters.perBlock + 2u * pair;
      let is_both = 2u * pair + 1u < parameters.perBlock;
      container[entry + 1u + pair] = work[at] | (select(0u, work[at + select(0u, 1u, is_both)], is_both) << 16u);
    }
    first += block_words(block);
  }
}
