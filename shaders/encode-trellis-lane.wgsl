// A lane encodes a vector, its search in registers, the ways back in its own memory: no barrier, nothing shared.
fn encode(vector: u32) {
  var largest = 0u;
  for (var i = 0u; i < DIM; i++) { largest = max(largest, vectors[vector + i] & 0x7fffffffu); }
  let exponent = exponent_of(largest);
  if (exponent > EXPONENT_MAX) { made[0] = NOT_FINITE_CODE; return; }
  if (exponent < EXPONENT_MIN) { return; }
  var squares = 0u;
  for (var i = 0u; i < DIM; i++) { squares += square_on_grid(vectors[vector + i], exponent); }
  let code = code_for(largest, exponent, squares);
  if (code < 1) { return; }
  made[0] = u32(min(code, CODE_MAX));
  trace_back(search(vector, exponent, per_unit(exponent, code, 9)));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = flat_lane(group, groups, local);
  if (i >= parameters.vectors) { return; }
  encode(source_of(i));
  write_made(target_of(i));
}
