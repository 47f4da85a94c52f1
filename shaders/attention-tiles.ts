// Many queries at once, without a barrier: the sums of a tile (QUADS quads of rows by TOKENS tokens, or by eight dimensions)
// as straight lines of WGSL, each sum in a variable of its own, so that a record is decoded once for all of a tile's rows. A
// workgroup is a subgroup. What is the same for its lanes (queries, weights) each of them loads a part of, and has the
// others' by subgroupBroadcast: software adapters load word by word and lane by lane, so that a load costs more than ten
// products. How large a tile may be, the code says: twice as long, it is compiled twice as long, or leaves the first cache.
import type { Written } from './kernel.ts';

/** Lanes that hold a part of the weights; every subgroup has so many. */
export const WEIGHT_LANES = 4;

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const lines = (n: number, line: (i: number) => string): string => upTo(n).map(line).join('\n');

/** `main` of attention-scores-tile.wgsl. */
export const SCORES_TILE: Written = {
  name: 'the scores of a tile',
  text({ TOKENS = 1, QUADS = 1, WORKGROUP: lanes = 1 }) {
    const fours = upTo(8 / lanes);
    const broadcast = (d: number) => `subgroupBroadcast(part${Math.floor(d / lanes)}, ${d % lanes}u)`;
    const four = (from: number) => `mat4x4f(${upTo(4).map((i) => broadcast(from + i))})`;
    return `${MAIN}
  let subs = PAGE_TOKENS / (TOKENS * WORKGROUP);
  let page = page_table[parameters.first + group.x / subs];
  let first_token = group.x % subs * TOKENS * WORKGROUP;
  let tile = tile_of(group.y);
  let keys = keys_at(page.x, tile.kv) + (first_token + lane) * key_words();
${lines(TOKENS, (t) => `  let key_at${t} = keys + ${t}u * WORKGROUP * key_words();`)}
${lines(QUADS, (q) => `  let query_at${q} = quad_at(tile, ${q}u) * DIM + lane;`)}
${lines(QUADS * TOKENS, (i) => `  var sum${Math.floor(i / TOKENS)}_${i % TOKENS} = vec4f(0);`)}
  for (var octet = 0u; octet < octets_of(tile, page.y + first_token); octet++) {
${lines(TOKENS, (t) => `    let key${t} = record_octet(K_CODEC, DIM, key_at${t}, octet);`)}
${lines(
  QUADS,
  (q) => `    {
${fours.map((i) => `      let part${i} = quadded[query_at${q} + octet * 8u + ${i * lanes}u];`).join('\n')}
      let low = ${four(0)};
      let high = ${four(4)};
${lines(TOKENS, (t) => `      sum${q}_${t} += low * key${t}.low + high * key${t}.high;`)}
    }`,
)}
  }
${lines(TOKENS, (t) => `  let scale${t} = record_scale(K_CODEC, key_at${t});`)}
  let from_score = group.x / subs * PAGE_TOKENS + first_token + lane;
${lines(
  QUADS,
  (q) => `  if (tile.quad + ${q}u < quads()) {
    let query = queries_of(tile.quad + ${q}u);
    let to = quad_at(tile, ${q}u) * parameters.pages * PAGE_TOKENS + from_score;
${lines(TOKENS, (t) => `    put(to, ${t}u * WORKGROUP, page.y + first_token + lane, query, sum${q}_${t} * scale${t});`)}
  }`,
)}
}
`;
  },
};

/** `main` of attention-values-tile.wgsl: AT_ONCE tokens are summed before they are added to the others. */
export const VALUES_TILE: Written = {
  name: 'the values of a tile',
  text({ AT_ONCE = 1, QUADS = 1 }) {
    const sum = (half: 'low' | 'high') =>
      upTo(AT_ONCE)
        .map((i) => `outer(value${i}.${half}, weight${i})`)
        .join(' + ');
    const some = (first: number) => `        {
${lines(AT_ONCE, (i) => `          let value${i} = value_octet(values, clamp(t + ${first + i}u, there.x, there.y - 1u), octet);`)}
${lines(
  QUADS,
  (q) => `          {
${lines(AT_ONCE, (i) => `            let weight${i} = subgroupBroadcast(part${q}, ${first + i}u);`)}
            low${q} += ${sum('low')};
            high${q} += ${sum('high')};
          }`,
)}
        }`;
    return `${MAIN}
  let tile = tile_of(group.y);
  let chunk = chunk_of(group.x, groups.x);
${lines(QUADS, (q) => `  let weight_at${q} = quad_at(tile, ${q}u) * chunk.apart + chunk.weights;`)}
  for (var first = 0u; first < DIM / 8u; first += WORKGROUP) {
    let octet = min(first + lane, DIM / 8u - 1u);
${lines(QUADS, (q) => `    var low${q} = mat4x4f();\n    var high${q} = mat4x4f();`)}
    for (var p = 0u; p < chunk.pages; p++) {
      let page = page_table[parameters.first + chunk.first + p];
      let there = tokens_within(tile.sight, page.y);
      let values = values_at(page.x, tile.kv);
      for (var t = there.x & ~3u; t < there.y; t += 4u) {
${lines(QUADS, (q) => `        let part${q} = weights[weight_at${q} + p * PAGE_TOKENS + t + lane % 4u];`)}
${upTo(WEIGHT_LANES / AT_ONCE)
  .map((i) => some(i * AT_ONCE))
  .join('\n')}
      }
    }
    if (first + lane < DIM / 8u) {
${lines(QUADS, (q) => `      put_quad(tile, ${q}u, chunk, weight_at${q}, octet, low${q}, high${q});`)}
    }
  }
${lines(QUADS, (q) => `  put_exponents(tile, ${q}u, chunk, weight_at${q}, lane);`)}
}
`;
  },
};

const MAIN = `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {`;
