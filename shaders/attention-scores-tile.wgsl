// Scores of a tile of rows with some tokens of a page, TOKENS tokens to a lane; what is not seen has the score NOTHING. The
// sums are written for each tile (attention-tiles.ts).
override TOKENS: u32;
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> quadded: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> scores: array<vec4f>;

// None, where no row sees any of these tokens.
fn octets_of(tile: Tile, first: u32) -> u32 {
  return select(0u, parameters.octets, first < tile.sight.y && first + TOKENS * WORKGROUP > tile.sight.x);
}

fn put(to: u32, beside: u32, token: u32, query: vec4u, score: vec4f) {
  scores[to + beside] = select(vec4f(NOTHING), score, seen(token + beside, query));
}
