// The fixed random signs of channels, as signs.ts has them: 1 or -1 from a hash of the channel's number, the same in every
// width. Multiplying by one is exact, so that nothing depends on where it is done.

fn channel_signs(channels: vec4u) -> vec4f {
  var hash = channels * 0x9e3779b1u;
  hash = (hash ^ (hash >> vec4u(15))) * 0x85ebca77u;
  return bitcast<vec4f>((hash & vec4u(0x80000000)) | vec4u(0x3f800000));
}

fn channel_sign(channel: u32) -> f32 {
  return channel_signs(vec4u(channel)).x;
}
