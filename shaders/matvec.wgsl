// Matrix (row by row) times vector, sums in f32. An across-*.wgsl shares out the rows.
@group(0) @binding(0) var<storage, read> matrix: array<Wide>;
@group(0) @binding(1) var<storage, read> vector: array<Wide>;
@group(0) @binding(2) var<storage, read_write> products: array<Element>;

fn rows() -> u32 {
  return parameters.rows;
}

fn combine(a: f32, b: f32) -> f32 {
  return a + b;
}

// What lane `first` of `count` lanes adds to a row's product.
fn gathered(row: u32, first: u32, count: u32) -> f32 {
  let length = parameters.columns / WIDTH;
  let begin = row * length;
  var a = WideSum(0);
  var b = a;
  var i = first;
  for (; i + count < length; i += 2u * count) {
    a += WideSum(matrix[begin + i]) * WideSum(vector[i]);
    b += WideSum(matrix[begin + i + count]) * WideSum(vector[i + count]);
  }
  if (i < length) { a += WideSum(matrix[begin + i]) * WideSum(vector[i]); }
  return added(a + b);
}

fn put(row: u32, value: f32) {
  products[row] = Element(value);
}
