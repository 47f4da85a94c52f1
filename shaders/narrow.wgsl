// Values one at a time, for lengths of any kind.
alias Wide = Element;
alias WideSum = f32;
const WIDTH = 1u;

fn added(x: WideSum) -> f32 {
  return x;
}

fn part(x: WideSum, i: u32) -> f32 {
  return x;
}
