// The number of a lane, whatever the shape in which its workgroups were dispatched.
override WORKGROUP: u32;

fn flat_group(group: vec3u, groups: vec3u) -> u32 {
  return group.y * groups.x + group.x;
}

fn flat_lane(group: vec3u, groups: vec3u, local: u32) -> u32 {
  return flat_group(group, groups) * WORKGROUP + local;
}
