// Which tokens a query sees, and where a page and its records lie. A row is one query of one head; the rows of the heads
// that share a kv head are consecutive, four of them a quad. Shared by the kernels that read pages.
override DIM: u32;
override K_CODEC: u32;
override V_CODEC: u32;
const PAGE_TOKENS = 64u;
// What stands for minus infinity: the score of a token that is not seen, the log-sum-exp of none.
const NOTHING = -1e30;

fn key_words() -> u32 {
  return record_words(K_CODEC, DIM);
}

fn value_words() -> u32 {
  return record_words(V_CODEC, DIM);
}

fn quads() -> u32 {
  return (parameters.rows + 3u) / 4u;
}

// The queries of a quad's rows.
fn queries_of(quad: u32) -> vec4u {
  return (vec4u(quad * 4u) + vec4u(0, 1, 2, 3)) % parameters.queries;
}

fn seen(token: u32, query: vec4u) -> vec4<bool> {
  let here = vec4u(parameters.position) + query;
  let inside = token >= parameters.begin && token < parameters.end;
  let before = (vec4u(token) <= here) | vec4<bool>(parameters.causal == 0u);
  let near = (vec4u(token + parameters.window) > here) | vec4<bool>(parameters.window == 0u);
  return vec4<bool>(inside) & before & near;
}

// Which tokens of a page lie at positions from bounds.x, below bounds.y: from x, below y.
fn tokens_within(bounds: vec2u, position: u32) -> vec2u {
  return min(max(bounds, vec2u(position)) - position, vec2u(PAGE_TOKENS));
}

// Which tokens of a page there are. What lies in the places of others is not to be touched.
fn tokens_of(position: u32) -> vec2u {
  return tokens_within(vec2u(parameters.begin, parameters.end), position);
}

fn keys_at(page: u32, kv: u32) -> u32 {
  return page + kv * PAGE_TOKENS * key_words();
}

fn values_at(page: u32, kv: u32) -> u32 {
  return page + parameters.kv_heads * PAGE_TOKENS * key_words() + kv * PAGE_TOKENS * value_words();
}
