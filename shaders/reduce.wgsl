// Folds each segment of `span` values into one f32; the last segment may be shorter. An across-*.wgsl shares out the rows.
// Two sums side by side: the next value need not wait for the one before.
@group(0) @binding(0) var<storage, read> source: array<Wide>;
@group(0) @binding(1) var<storage, read_write> folds: array<f32>;

fn rows() -> u32 {
  return parameters.length / parameters.span + select(0u, 1u, parameters.length % parameters.span != 0u);
}

// What lane `first` of `count` lanes folds of a row.
fn gathered(row: u32, first: u32, count: u32) -> f32 {
  let begin = row * parameters.span;
  let end = (begin + min(parameters.span, parameters.length - begin)) / WIDTH;
  var a = WideSum(nothing());
  var b = a;
  var i = begin / WIDTH + first;
  for (; i + count < end; i += 2u * count) {
    a = combine_wide(a, taken(WideSum(source[i])));
    b = combine_wide(b, taken(WideSum(source[i + count])));
  }
  if (i < end) { a = combine_wide(a, taken(WideSum(source[i]))); }
  a = combine_wide(a, b);
  var all = part(a, 0u);
  for (var k = 1u; k < WIDTH; k++) { all = combine(all, part(a, k)); }
  return all;
}

fn put(row: u32, value: f32) {
  folds[row] = value;
}
