// Rotations of one vector in place: fixed signs, then the orthonormal Hadamard transform in blocks of `hadamardBlock(dim)`;
// unrotating is the transform, then the signs. In the operations of the kernel `hadamard` and in its order: f32 sums and
// differences at distances block / 2, …, 2, 1, and one f32 product at the end. So the kernel with SIGNS gives the same bits,
// unless an adapter flushes denormals or regroups sums; the tests hold every form to that on both software adapters. Pure.
import { hadamardBlock } from './catalogue.ts';
import { signOf } from './signs.ts';

const BLOCK_MIN = 16;

/** Signs, then transform. A vector has a multiple of 16 values. */
export function rotate(vector: Float32Array): void {
  giveSigns(vector);
  transform(vector);
}

/** Transform, then signs: what `rotate` made of a vector becomes that vector again, but for rounding. */
export function unrotate(vector: Float32Array): void {
  transform(vector);
  giveSigns(vector);
}

function giveSigns(vector: Float32Array): void {
  for (let channel = 0; channel < vector.length; channel++) vector[channel] = (vector[channel] ?? 0) * signOf(channel);
}

function transform(vector: Float32Array): void {
  const block = hadamardBlock(vector.length);
  if (block < BLOCK_MIN)
    throw new RangeError(`a vector to rotate has a multiple of ${BLOCK_MIN} values, not ${vector.length}`);
  for (let distance = block / 2; distance >= 1; distance /= 2)
    for (let low = 0; low < vector.length; low += 2 * distance)
      for (let i = low; i < low + distance; i++) {
        const a = vector[i] ?? 0;
        const b = vector[i + distance] ?? 0;
        vector[i] = a + b; // rounded to f32 where it is stored
        vector[i + distance] = a - b;
      }
  const scale = Math.fround(1 / Math.sqrt(block));
  for (let i = 0; i < vector.length; i++) vector[i] = (vector[i] ?? 0) * scale;
}
