// Attention of a quad of rows over a chunk of pages, all in one, for GPUs: 256 tokens at a time, their scores a token to each
// lane, then their values, eight dimensions of every few tokens to each lane; queries and weights in workgroup memory. The
// softmax goes along: what was summed is scaled when a larger score comes. Gives a partial result of each chunk.
override WORKGROUP: u32; // 256
const SIXTEEN = 16u;
override QUERY_PARTS: u32 = DIM / 4u;
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> quadded: array<mat4x4f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
var<workgroup> query_parts: array<mat4x4f, QUERY_PARTS>;
var<workgroup> weights: array<vec4f, WORKGROUP>;
var<workgroup> folded: array<vec4f, WORKGROUP>;
var<workgroup> firsts: array<vec4f, SIXTEEN>;

fn outer(a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(a * b.x, a * b.y, a * b.z, a * b.w);
}

fn score(page: vec2u, kv: u32, local: u32, query: vec4u) -> vec4f {
  let base = keys_at(page.x, kv) + local % PAGE_TOKENS * key_words();
  var sum = vec4f(0);
  for (var octet = 0u; octet < parameters.octets; octet++) {
    let key = record_octet(K_CODEC, DIM, base, octet);
    sum += query_parts[octet * 2u] * key.low + query_parts[octet * 2u + 1u] * key.high;
  }
  return select(vec4f(NOTHING), sum * record_scale(K_CODEC, base), seen(page.y + local % PAGE_TOKENS, query));
}

// What all lanes hold, folded in two steps: sixteen lanes take their part each, then every lane takes what they have.
fn folded_max(local: u32, value: vec4f) -> vec4f {
  folded[local] = value;
  workgroupBarrier();
  if (local < SIXTEEN) {
    var part = value;
    for (var i = local + SIXTEEN; i < WORKGROUP; i += SIXTEEN) { part = max(part, folded[i]); }
    firsts[local] = part;
  }
  workgroupBarrier();
  var all = firsts[0];
  for (var i = 1u; i < min(SIXTEEN, parameters.extent) + parameters.first * 0u; i++) { all = max(all, firsts[i]); }
  return all;
}

fn folded_sum(local: u32, value: vec4f) -> vec4f {
  folded[local] = value;
  workgroupBarrier();
  if (local < SIXTEEN) {
    var part = value;
    for (var i = local + SIXTEEN; i < WORKGROUP; i += SIXTEEN) { part += folded[i]; }
    firsts[local] = part;
  }
  workgroupBarrier();
  var all = firsts[0];
  for (var i = 1u; i < min(SIXTEEN, parameters.extent) + parameters.first * 0u; i++) { all += firsts[i]; }
  return all;
}

// The same octet of the slices, added up and written, dimension by dimension.
fn put(local: u32, slices: u32, to: u32, value: vec4f) {
  let octets = DIM / 8u;
  folded[local] = value;
  workgroupBarrier();
  if (local < octets) {
    var sum = folded[local];
    for (var slice = 1u; slice < slices; slice++) { sum += folded[slice * octets + local]; }
    for (var i = 0u; i < 4u; i++) { partials[to + i] = sum[i]; }
  }
  workgroupBarrier();
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let kv = group.y / quads();
  let row = group.y % quads() * 4u;
  let query = queries_of(group.y % quads());
  let first = group.x * parameters.chunk;
  let end = first + min(parameters.chunk, parameters.pages - first);
  let octets = DIM / 8u;
  let slices = WORKGROUP / octets;
  let octet = local % octets;
  for (var i = local; i < QUERY_PARTS; i += WORKGROUP) { query_parts[i] = quadded[group.y * QUERY_PARTS + i]; }
  workgroupBarrier();
  var largest = vec4f(NOTHING);
  var sum = vec4f(0);
  var low = mat4x4f();
  var high = mat4x4f();
  for (var start = first; start < end; start += WORKGROUP / PAGE_TOKENS) {
    let own = start + local / PAGE_TOKENS;
    var mine = vec4f(NOTHING);
    if (own < end) { mine = score(page_table[parameters.first + own], kv, local, query); }
    let next = max(largest, folded_max(local, mine));
    // where nothing is seen every difference is zero: those weights are none
    let weight = select(exp(mine - next), vec4f(0), mine <= vec4f(NOTHING));
    let scale = exp(largest - next);
    largest = next;
    sum = sum * scale + folded_sum(local, weight);
    low = mat4x4f(low[0] * scale.x, low[1] * scale.y, low[2] * scale.z, low[3] * scale.w);
    high = mat4x4f(high[0] * scale.x, high[1] * scale.y, high[2] * scale.z, high[3] * scale.w);
    weights[local] = weight;
    workgroupBarrier();
    let tokens = min(WORKGROUP, (end - start) * PAGE_TOKENS);
    if (local / octets < slices) {
      for (var t = local / octets; t < tokens; t += slices) {
        let page = page_table[parameters.first + start + t / PAGE_TOKENS];
        let there = tokens_of(page.y);
        if (t % PAGE_TOKENS < there.x || t % PAGE_TOKENS >= there.y) { continue; }
        let base = values_at(page.x, kv) + t % PAGE_TOKENS * value_words();
        let value = record_octet(V_CODEC, DIM, base, octet);
        let scaled = weights[t] * record_scale(V_CODEC, base);
        low += outer(value.low, scaled);
        high += outer(value.high, scaled);
      }
    }
    workgroupBarrier();
  }
  let all = parameters.kv_heads * parameters.rows;
  let partial = group.x * all * (DIM + 1u);
  let rows = min(4u, parameters.rows - row);
  let share = 1.0 / max(sum, vec4f(1e-30));
  let to = partial + (kv * parameters.rows + row) * DIM + octet * 8u;
  for (var half = 0u; half < rows * 2u; half++) {
    let r = half / 2u;
    put(local, slices, to + r * DIM + half % 2u * 4u, select(low[r], high[r], half % 2u == 1u) * share[r]);
  }
  if (local >= rows) { return; }
  let exponent = select(vec4f(NOTHING), largest + log(max(sum, vec4f(1))), largest > vec4f(NOTHING));
  partials[partial + all * DIM + kv * parameters.rows + row + local] = exponent[local];
}
