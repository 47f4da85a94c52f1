// Attention of 16 quads of rows over a chunk of pages, for many queries on GPUs: 32 tokens at a time, decoded once for all
// quads into workgroup memory. A lane has a quad, and of its tokens every 16th, of its dimensions every 16th eight. The
// softmax goes along: what was summed is scaled when a larger score comes. Gives a partial result of each chunk.
override WORKGROUP: u32; // 256
const TILE_TOKENS = 32u;
const TILE_QUADS = 16u;
const BESIDE = 16u; // lanes of a quad
const KEY_OCTETS = 4u; // decoded at a time, of each token
const KEY_APART = 9u; // an odd number of vectors: banks are not met twice
const VALUE_TOKENS = 8u;
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> quadded: array<mat4x4f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
var<workgroup> decoded: array<vec4f, 512>; // keys 32 x 9, or values 8 x 64
var<workgroup> weights: array<vec4f, TILE_QUADS * TILE_TOKENS>;

fn outer(a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(a * b.x, a * b.y, a * b.z, a * b.w);
}

fn scaled(sums: mat4x4f, by: vec4f) -> mat4x4f {
  return mat4x4f(sums[0] * by.x, sums[1] * by.y, sums[2] * by.z, sums[3] * by.w);
}

fn decode_keys(base: u32, first_octet: u32, local: u32) {
  let token = local / KEY_OCTETS;
  let octet = first_octet + local % KEY_OCTETS;
  if (token >= TILE_TOKENS || octet >= DIM / 8u) { return; }
  let at = base + token * key_words();
  let key = record_octet(K_CODEC, DIM, at, octet);
  let scale = record_scale(K_CODEC, at);
  decoded[token * KEY_APART + local % KEY_OCTETS * 2u] = key.low * scale;
  decoded[token * KEY_APART + local % KEY_OCTETS * 2u + 1u] = key.high * scale;
}

fn decode_values(base: u32, first: u32, there: vec2u, local: u32) {
  for (var i = local; i < VALUE_TOKENS * DIM / 8u; i += WORKGROUP) {
    let token = first + i / (DIM / 8u);
    var value = Octet();
    if (token >= there.x && token < there.y) {
      let at = base + token * value_words();
      value = record_octet(V_CODEC, DIM, at, i % (DIM / 8u));
      let scale = record_scale(V_CODEC, at);
      value = Octet(value.low * scale, value.high * scale);
    }
    decoded[i * 2u] = value.low;
    decoded[i * 2u + 1u] = value.high;
  }
}

fn put(to: u32, value: vec4f) {
  for (var i = 0u; i < 4u; i++) { partials[to + i] = value[i]; }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let tiles = (quads() + TILE_QUADS - 1u) / TILE_QUADS;
  let kv = group.y / tiles;
  let quad = group.y % tiles * TILE_QUADS + local / BESIDE;
  // quads behind the last one repeat it, and are not written
  let queries_begin = (kv * quads() + min(quad, quads() - 1u)) * (DIM / 4u);
  let query = queries_of(quad);
  let beside = local % BESIDE;
  let own = local / BESIDE * TILE_TOKENS;
  let first = group.x * parameters.chunk;
  let count = min(parameters.chunk, parameters.pages - first) * PAGE_TOKENS;
  var largest = vec4f(NOTHING);
  var sum = vec4f(0);
  var low = mat4x4f();
  var high = mat4x4f();
  var low_far = mat4x4f(); // beyond 128 dimensions
  var high_far = mat4x4f();
  for (var start = 0u; start < count; start += TILE_TOKENS) {
    let page = page_table[parameters.first + first + start / PAGE_TOKENS];
    let from_token = start % PAGE_TOKENS;
    let keys = keys_at(page.x, kv) + from_token * key_words();
    var near_score = vec4f(0);
    var far_score = vec4f(0);
    for (var octet = 0u; octet < parameters.octets; octet += KEY_OCTETS) {
      decode_keys(keys, octet, local);
      workgroupBarrier();
      for (var i = 0u; i < min(KEY_OCTETS, DIM / 8u - octet) * 2u; i++) {
        let four = quadded[queries_begin + octet * 2u + i];
        near_score += four * decoded[beside * KEY_APART + i];
        far_score += four * decoded[(beside + BESIDE) * KEY_APART + i];
      }
      workgroupBarrier();
    }
    let token = page.y + from_token + beside;
    near_score = select(vec4f(NOTHING), near_score, seen(token, query));
    far_score = select(vec4f(NOTHING), far_score, seen(token + BESIDE, query));
    weights[own + beside] = near_score;
    weights[own + beside + BESIDE] = far_score;
    workgroupBarrier();
    var next = largest;
    for (var t = 0u; t < TILE_TOKENS; t++) { next = max(next, weights[own + t]); }
    workgroupBarrier();
    // where nothing is seen every difference is zero: those weights are none
    weights[own + beside] = select(exp(near_score - next), vec4f(0), near_score <= vec4f(NOTHING));
    weights[own + beside + BESIDE] = select(exp(far_score - next), vec4f(0), far_score <= vec4f(NOTHING));
    let scale = exp(largest - next);
    largest = next;
    sum *= scale;
    low = scaled(low, scale);
    high = scaled(high, scale);
    low_far = scaled(low_far, scale);
    high_far = scaled(high_far, scale);
    for (var part = 0u; part < TILE_TOKENS; part += VALUE_TOKENS) {
      decode_values(values_at(page.x, kv), from_token + part, tokens_of(page.y), local);
      workgroupBarrier();
      for (var t = 0u; t < VALUE_TOKENS; t++) {
        let weight = weights[own + part + t];
        sum += weight;
        let at = t * DIM / 4u + beside * 2u;
        if (beside < DIM / 8u) {
          low += outer(decoded[at], weight);
          high += outer(decoded[at + 1u], weight);
        }
        if (beside + BESIDE < DIM / 8u) {
          low_far += outer(decoded[at + BESIDE * 2u], weight);
          high_far += outer(decoded[at + BESIDE * 2u + 1u], weight);
        }
      }
      workgroupBarrier();
    }
  }
  if (quad >= quads()) { return; }
  let all = parameters.kv_heads * parameters.rows;
  let partial = group.x * all * (DIM + 1u);
  let row = kv * parameters.rows + quad * 4u;
  let share = 1.0 / max(sum, vec4f(1e-30));
  for (var r = 0u; r < min(4u, parameters.rows - quad * 4u); r++) {
    let to = partial + (row + r) * DIM + beside * 8u;
    if (beside < DIM / 8u) {
      put(to, low[r] * share[r]);
      put(to + 4u, high[r] * share[r]);
    }
    if (beside + BESIDE < DIM / 8u) {
      put(to + BESIDE * 8u, low_far[r] * share[r]);
      put(to + BESIDE * 8u + 4u, high_far[r] * share[r]);
    }
  }
  if (beside >= min(4u, parameters.rows - quad * 4u)) { return; }
  let exponent = select(vec4f(NOTHING), largest + log(max(sum, vec4f(1))), largest > vec4f(NOTHING));
  partials[partial + all * DIM + row + beside] = exponent[beside];
}
