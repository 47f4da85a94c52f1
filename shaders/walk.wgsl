// Where vector i begins, in the source and in the target: vectors follow one another in steps, runs of them in jumps.
fn source_of(i: u32) -> u32 {
  return parameters.source_first + (i / parameters.run) * parameters.source_jump + (i % parameters.run) * parameters.source_step;
}

fn target_of(i: u32) -> u32 {
  return parameters.target_first + (i / parameters.run) * parameters.target_jump + (i % parameters.run) * parameters.target_step;
}
