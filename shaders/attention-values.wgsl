// Values of a chunk, summed by their weights, for each quad of rows: eight dimensions to a lane, no barrier. Gives a partial
// result of each chunk: the rows' outputs, then their log-sum-exps.
override WORKGROUP: u32;
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

// Eight dimensions of four rows.
struct Sums {
  low: mat4x4f,
  high: mat4x4f,
}

fn outer(a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(a * b.x, a * b.y, a * b.z, a * b.w);
}

// What a page adds to the sums of an octet of dimensions.
fn summed(base: u32, tokens: vec2u, from_weight: u32, octet: u32) -> Sums {
  var sums = Sums();
  var at = base + tokens.x * value_words();
  for (var t = tokens.x; t < tokens.y; t++) {
    let weight = weights[from_weight + t] * record_scale(V_CODEC, at);
    let value = record_octet(V_CODEC, DIM, at, octet);
    sums.low += outer(value.low, weight);
    sums.high += outer(value.high, weight);
    at += value_words();
  }
  return sums;
}

fn put(to: u32, low: vec4f, high: vec4f) {
  for (var i = 0u; i < 4u; i++) {
    partials[to + i] = low[i];
    partials[to + 4u + i] = high[i];
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let kv = group.y / quads();
  let row = group.y % quads() * 4u;
  let first = group.x * parameters.chunk;
  let count = min(parameters.chunk, parameters.pages - first);
  let begin = group.y * (parameters.pages * PAGE_TOKENS + groups.x * 2u) + group.x * (parameters.chunk * PAGE_TOKENS + 2u);
  let end = begin + count * PAGE_TOKENS;
  let all = parameters.kv_heads * parameters.rows;
  let partial = group.x * all * (DIM + 1u);
  let rows = min(4u, parameters.rows - row);
  for (var octet = local; octet < DIM / 8u; octet += WORKGROUP) {
    var low = mat4x4f();
    var high = mat4x4f();
    for (var p = 0u; p < count; p++) {
      let page = page_table[parameters.first + first + p];
      let more = summed(values_at(page.x, kv), tokens_of(page.y), begin + p * PAGE_TOKENS, octet);
      low += more.low;
      high += more.high;
    }
    let share = 1.0 / max(weights[end], vec4f(1e-30));
    let to = partial + (kv * parameters.rows + row) * DIM + octet * 8u;
    put(to, low[0] * share.x, high[0] * share.x);
    if (rows > 1u) { put(to + DIM, low[1] * share.y, high[1] * share.y); }
    if (rows > 2u) { put(to + DIM * 2u, low[2] * share.z, high[2] * share.z); }
    if (rows > 3u) { put(to + DIM * 3u, low[3] * share.w, high[3] * share.w); }
  }
  if (local >= rows) { return; }
  partials[partial + all * DIM + kv * parameters.rows + row + local] = weights[end + 1u][local];
}
