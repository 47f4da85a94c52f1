// How reduce folds: OPERATION is 0 sum, 1 max, 2 min, 3 sum of squares.
override OPERATION: u32;
const LARGEST = 3.40282346638528859812e+38f;

fn nothing() -> f32 {
  return select(select(0f, LARGEST, OPERATION == 2u), -LARGEST, OPERATION == 1u);
}

fn taken(x: WideSum) -> WideSum {
  if (OPERATION == 3u) { return x * x; }
  return x;
}

fn combine(a: f32, b: f32) -> f32 {
  if (OPERATION == 1u) { return max(a, b); }
  if (OPERATION == 2u) { return min(a, b); }
  return a + b;
}

fn combine_wide(a: WideSum, b: WideSum) -> WideSum {
  if (OPERATION == 1u) { return max(a, b); }
  if (OPERATION == 2u) { return min(a, b); }
  return a + b;
}
