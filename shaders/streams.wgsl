// Where a stream lies, from the directory of core/codec/rans-streams.ts: for each block the word of its first stream, counted
// from the first of all, and the length of each of its streams, two to a word.
struct Range { first: u32, length: u32 }

fn directory_word(at: u32) -> u32 {
  return container[min(at, arrayLength(&container) - 1u)];
}

fn length_of(entry: u32, lane: u32) -> u32 {
  return (directory_word(entry + 1u + lane / 2u) >> (16u * (lane & 1u))) & 0xffffu;
}

fn stream_range(directory: u32, blocks: u32, per_block: u32, block: u32, lane: u32) -> Range {
  let entry_words = 1u + (per_block + 1u) / 2u;
  let entry = directory + block * entry_words;
  var first = directory + blocks * entry_words + directory_word(entry);
  for (var i = 0u; i < lane; i++) { first += length_of(entry, i); }
  return Range(first, length_of(entry, lane));
}
