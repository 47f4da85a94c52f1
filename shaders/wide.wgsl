// Values four at a time, where all lengths are multiples of four.
alias Wide = vec4<Element>;
alias WideSum = vec4f;
const WIDTH = 4u;

fn added(x: WideSum) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}

fn part(x: WideSum, i: u32) -> f32 {
  return x[i];
}
