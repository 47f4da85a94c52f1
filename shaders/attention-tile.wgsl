// A tile of rows: QUADS quads of one kv head, and the tokens that some of its rows see. Quads behind the last one repeat it
// where they are read, and are not written.
override WORKGROUP: u32; // lanes of a subgroup
override QUADS: u32;

struct Tile {
  kv: u32,
  quad: u32,
  // tokens at positions from x, below y
  sight: vec2u,
}

fn tile_of(number: u32) -> Tile {
  let tiles = (quads() + QUADS - 1u) / QUADS;
  let quad = number % tiles * QUADS;
  return Tile(number / tiles, quad, sight_of(quad * 4u));
}

// Where that quad's things are, counted in quads.
fn quad_at(tile: Tile, quad: u32) -> u32 {
  return tile.kv * quads() + min(tile.quad + quad, quads() - 1u);
}

fn sight_of(row: u32) -> vec2u {
  let query = row % parameters.queries;
  // rows that reach into the next head have the first queries as well as the last
  let isWithin = query + QUADS * 4u <= parameters.queries;
  let oldest = parameters.position + select(0u, query, isWithin);
  let newest = parameters.position + select(parameters.queries, query + QUADS * 4u, isWithin) - 1u;
  let begin = select(0u, max(oldest + 1u, parameters.window) - parameters.window, parameters.window != 0u);
  let end = select(parameters.end, min(parameters.end, newest + 1u), parameters.causal != 0u);
  return vec2u(max(parameters.begin, begin), end);
}
