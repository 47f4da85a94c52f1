// Scores of a quad of rows with the 64 tokens of a page, eight tokens to a lane, so that a query is read once for eight of
// them. No barrier. What is not seen has the score NOTHING.
override WORKGROUP: u32; // 8: a page is a workgroup's
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read> page_table: array<vec2u>;
@group(0) @binding(2) var<storage, read> quadded: array<mat4x4f>;
@group(0) @binding(3) var<storage, read_write> scores: array<vec4f>;

fn product(low: mat4x4f, high: mat4x4f, base: u32, octet: u32) -> vec4f {
  let key = record_octet(K_CODEC, DIM, base, octet);
  return low * key.low + high * key.high;
}

fn put(to: u32, token: u32, query: vec4u, sum: vec4f, base: u32) {
  scores[to] = select(vec4f(NOTHING), sum * record_scale(K_CODEC, base), seen(token, query));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let page = page_table[parameters.first + group.x];
  let quad = group.y % quads();
  let step = WORKGROUP * key_words();
  let base = keys_at(page.x, group.y / quads()) + local * key_words();
  let b = base + vec4u(0, 1, 2, 3) * step;
  let c = base + vec4u(4, 5, 6, 7) * step;
  let begin = group.y * DIM / 4u;
  var s0 = vec4f(0);
  var s1 = s0;
  var s2 = s0;
  var s3 = s0;
  var s4 = s0;
  var s5 = s0;
  var s6 = s0;
  var s7 = s0;
  for (var octet = 0u; octet < parameters.octets; octet++) {
    let low = quadded[begin + octet * 2u];
    let high = quadded[begin + octet * 2u + 1u];
    s0 += product(low, high, b.x, octet);
    s1 += product(low, high, b.y, octet);
    s2 += product(low, high, b.z, octet);
    s3 += product(low, high, b.w, octet);
    s4 += product(low, high, c.x, octet);
    s5 += product(low, high, c.y, octet);
    s6 += product(low, high, c.z, octet);
    s7 += product(low, high, c.w, octet);
  }
  let query = queries_of(quad);
  let to = (group.y * parameters.pages + group.x) * PAGE_TOKENS + local;
  let token = page.y + local;
  put(to, token, query, s0, b.x);
  put(to + WORKGROUP, token + WORKGROUP, query, s1, b.y);
  put(to + WORKGROUP * 2u, token + WORKGROUP * 2u, query, s2, b.z);
  put(to + WORKGROUP * 3u, token + WORKGROUP * 3u, query, s3, b.w);
  put(to + WORKGROUP * 4u, token + WORKGROUP * 4u, query, s4, c.x);
  put(to + WORKGROUP * 5u, token + WORKGROUP * 5u, query, s5, c.y);
  put(to + WORKGROUP * 6u, token + WORKGROUP * 6u, query, s6, c.z);
  put(to + WORKGROUP * 7u, token + WORKGROUP * 7u, query, s7, c.w);
}
