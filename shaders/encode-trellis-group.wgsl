// A lane takes a class of states, as many lanes as there are classes a vector: little to wait for where lanes are many. One
// barrier a value: where two classes become one, whoever comes from them compares them itself.
override TEAMS: u32 = WORKGROUP / CLASSES;
const WAYS_PER_WORD = 32u / WAY_BITS;
override WAY_WORDS: u32 = (DIM + WAYS_PER_WORD - 1u) / WAYS_PER_WORD;
override UPPER_WORDS: u32 = (DIM + 31u) / 32u;

var<workgroup> largest_of: array<atomic<u32>, TEAMS>;
var<workgroup> squares_of: array<atomic<u32>, TEAMS>;
var<workgroup> targets: array<i32, TEAMS * DIM>;
/** Of the value before and of this one, in turn. */
var<workgroup> costs: array<u32, 2u * WORKGROUP>;
/** By class, and of those by time. */
var<workgroup> ways: array<u32, WORKGROUP * WAY_WORDS>;
var<workgroup> uppers: array<u32, WORKGROUP / 2u * UPPER_WORDS>;
var<private> team: u32;

fn way_to(t: u32, at: u32) -> u32 {
  let word = ways[(team * CLASSES + at) * WAY_WORDS + t / WAYS_PER_WORD];
  return (word >> (t % WAYS_PER_WORD * WAY_BITS)) & (MEMBERS - 1u);
}

fn took_upper(t: u32, at: u32) -> u32 {
  return (uppers[(team * (CLASSES / 2u) + at) * UPPER_WORDS + (t >> 5u)] >> (t & 31u)) & 1u;
}

/** What it cost to come to where `state` begins; `first` is this team's first of the costs before. */
fn cost_before(first: u32, state: u32, merged: bool) -> u32 {
  let pair = first + 2u * (state & (CLASSES / 2u - 1u));
  if (merged) { return min(costs[pair], costs[pair + 1u]); }
  return costs[first + (state & (CLASSES - 1u))];
}

/** The state in which the cheapest way of all ends, the lowest of two. */
fn last_state(first: u32) -> u32 {
  var best = 0u;
  for (var each = 1u; each < CLASSES; each++) {
    if ((costs[first + each] >> 6u) < (costs[first + best] >> 6u)) { best = each; }
  }
  return (best << SHIFT_BITS) | (costs[first + best] & (MEMBERS - 1u));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  team = local / CLASSES;
  let own = local % CLASSES;
  let i = flat_group(group, groups) * TEAMS + team;
  // a team without a vector goes along, for the barriers' sake, and writes nothing
  let vector = source_of(min(i, parameters.vectors - 1u));

  var size = 0u;
  for (var at = own; at < DIM; at += CLASSES) { size = max(size, vectors[vector + at] & 0x7fffffffu); }
  atomicMax(&largest_of[team], size);
  workgroupBarrier();
  let largest = atomicLoad(&largest_of[team]);
  let exponent = clamp(exponent_of(largest), EXPONENT_MIN, EXPONENT_MAX);
  var squares = 0u;
  for (var at = own; at < DIM; at += CLASSES) { squares += square_on_grid(vectors[vector + at], exponent); }
  atomicAdd(&squares_of[team], squares);
  workgroupBarrier();
  let code = code_for(largest, exponent, atomicLoad(&squares_of[team]));
  let per_half_step = per_unit(exponent, code, 9);
  for (var at = own; at < DIM; at += CLASSES) {
    targets[team * DIM + at] = search_target(vectors[vector + at], exponent, per_half_step);
  }
  var levels: array<i32, MEMBERS>;
  for (var member = 0u; member < MEMBERS; member++) {
    levels[member] = 8 * i32(level_of_state(trellis_of(CODEC), vec4u(own * MEMBERS + member)).x);
  }
  costs[local] = 0u;
  workgroupBarrier();

  var before = 0u;
  var kept_ways = 0u;
  var kept_uppers = 0u;
  for (var t = 0u; t < DIM; t++) {
    let x = targets[team * DIM + t];
    let merged = t > 0u && dropped(max(t, 1u) - 1u) > SHIFT_BITS;
    var cost = 0xffffffffu;
    for (var member = 0u; member < MEMBERS; member++) {
      let e = x - levels[member];
      cost = min(cost, cost_before(before + team * CLASSES, own * MEMBERS + member, merged) + u32(e * e) + member);
    }
    kept_ways |= (cost & (MEMBERS - 1u)) << (t % WAYS_PER_WORD * WAY_BITS);
    if ((t + 1u) % WAYS_PER_WORD == 0u || t + 1u == DIM) {
      ways[local * WAY_WORDS + t / WAYS_PER_WORD] = kept_ways;
      kept_ways = 0u;
    }
    before = WORKGROUP - before;
    costs[before + local] = select(cost & 0xffffffc0u, cost, t + 1u == DIM);
    workgroupBarrier();
    let pair = before + team * CLASSES + 2u * (own & (CLASSES / 2u - 1u));
    kept_uppers |= select(0u, 1u << (t & 31u), costs[pair + 1u] < costs[pair]);
    if ((t & 31u) == 31u || t + 1u == DIM) {
      if (own < CLASSES / 2u) { uppers[(team * (CLASSES / 2u) + own) * UPPER_WORDS + (t >> 5u)] = kept_uppers; }
      kept_uppers = 0u;
    }
  }
  workgroupBarrier();
  if (own != 0u || i >= parameters.vectors) { return; }
  if (exponent_of(largest) > EXPONENT_MAX) {
    made[0] = NOT_FINITE_CODE;
  } else if (exponent_of(largest) >= EXPONENT_MIN && code >= 1) {
    made[0] = u32(min(code, CODE_MAX));
    trace_back(last_state(before + team * CLASSES));
  }
  write_made(target_of(i));
}
