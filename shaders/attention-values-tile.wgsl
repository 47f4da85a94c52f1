// Values of a chunk, summed by their weights, for a tile of rows: eight dimensions to a lane. Gives a partial result of each
// chunk: the rows' outputs, then their log-sum-exps. The sums are written for each tile (attention-tiles.ts).
override AT_ONCE: u32; // tokens; as the text was written for
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

struct Chunk {
  first: u32,
  pages: u32,
  // of a quad, from its first; and from one quad to the next
  weights: u32,
  apart: u32,
  // of the partial result
  begin: u32,
}

fn chunk_of(number: u32, count: u32) -> Chunk {
  let first = number * parameters.chunk;
  return Chunk(
    first,
    min(parameters.chunk, parameters.pages - first),
    number * (parameters.chunk * PAGE_TOKENS + 2u),
    parameters.pages * PAGE_TOKENS + count * 2u,
    number * parameters.kv_heads * parameters.rows * (DIM + 1u),
  );
}

fn outer(a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(a * b.x, a * b.y, a * b.z, a * b.w);
}

fn value_octet(values: u32, token: u32, octet: u32) -> Octet {
  let base = values + token * value_words();
  let value = record_octet(V_CODEC, DIM, base, octet);
  let scale = record_scale(V_CODEC, base);
  return Octet(value.low * scale, value.high * scale);
}

fn put(to: u32, low: vec4f, high: vec4f) {
  for (var i = 0u; i < 4u; i++) {
    partials[to + i] = low[i];
    partials[to + 4u + i] = high[i];
  }
}

fn put_quad(tile: Tile, quad: u32, chunk: Chunk, weight_at: u32, octet: u32, low: mat4x4f, high: mat4x4f) {
  let row = (tile.quad + quad) * 4u;
  let share = 1.0 / max(weights[weight_at + chunk.pages * PAGE_TOKENS], vec4f(1e-30));
  let to = chunk.begin + (tile.kv * parameters.rows + row) * DIM + octet * 8u;
  if (row < parameters.rows) { put(to, low[0] * share.x, high[0] * share.x); }
  if (row + 1u < parameters.rows) { put(to + DIM, low[1] * share.y, high[1] * share.y); }
  if (row + 2u < parameters.rows) { put(to + DIM * 2u, low[2] * share.z, high[2] * share.z); }
  if (row + 3u < parameters.rows) { put(to + DIM * 3u, low[3] * share.w, high[3] * share.w); }
}

fn put_exponents(tile: Tile, quad: u32, chunk: Chunk, weight_at: u32, lane: u32) {
  let row = (tile.quad + quad) * 4u + lane;
  if (lane >= 4u || row >= parameters.rows) { return; }
  let to = chunk.begin + parameters.kv_heads * parameters.rows * DIM + tile.kv * parameters.rows + row;
  partials[to] = weights[weight_at + chunk.pages * PAGE_TOKENS + 1u][lane];
}
