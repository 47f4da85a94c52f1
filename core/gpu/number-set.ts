// A set of numbers from 0, below its capacity, in typed arrays made once: adding, deleting and finding the lowest take the
// same few steps however large it is. A tree of bits, 32 to a word: a bit of a level says that a word below it has one set.
// Pure. Adding what is there, deleting what is not, and numbers beyond the capacity are our bugs and throw.

const BITS = 5;
const bit = (n: number): number => 1 << (n & 31);

export interface NumberSet {
  readonly size: number;
  has(n: number): boolean;
  add(n: number): void;
  delete(n: number): void;
  /** -1 when it is empty. */
  lowest(): number;
  /** Exactly the numbers below `count`. */
  fill(count: number): void;
}

export function createNumberSet(capacity: number): NumberSet {
  /** From the numbers' own bits up to a single word. */
  const levels: Int32Array[] = [];
  for (let n = capacity; levels.length === 0 || n > 1; ) {
    n = Math.max(1, Math.ceil(n / 32));
    levels.push(new Int32Array(n));
  }
  const [bits = new Int32Array(0)] = levels;
  let size = 0;

  const has = (n: number): boolean => n >= 0 && n < capacity && ((bits[n >>> BITS] ?? 0) & bit(n)) !== 0;

  function add(n: number): void {
    if (!(n >= 0 && n < capacity) || has(n))
      throw new Error(`${n} cannot be added to a set of numbers below ${capacity}`);
    size++;
    let at = n;
    for (const level of levels) {
      const word = level[at >>> BITS] ?? 0;
      level[at >>> BITS] = word | bit(at);
      if (word !== 0) return;
      at >>>= BITS;
    }
  }

  function remove(n: number): void {
    if (!has(n)) throw new Error(`${n} cannot be deleted from a set that lacks it`);
    size--;
    let at = n;
    for (const level of levels) {
      const word = (level[at >>> BITS] ?? 0) & ~bit(at);
      level[at >>> BITS] = word;
      if (word !== 0) return;
      at >>>= BITS;
    }
  }

  return {
    get size() {
      return size;
    },
    has,
    add,
    delete: remove,
    lowest() {
      if (size === 0) return -1;
      let at = 0;
      for (let i = levels.length - 1; i >= 0; i--) {
        const word = levels[i]?.[at] ?? 0;
        at = (at << BITS) | (31 - Math.clz32(word & -word));
      }
      return at;
    },
    fill(count) {
      if (!(count >= 0 && count <= capacity)) throw new Error(`a set of ${capacity} cannot hold ${count}`);
      size = count;
      let left = count;
      for (const level of levels) {
        level.fill(0);
        level.fill(-1, 0, left >>> BITS);
        if (left & 31) level[left >>> BITS] = bit(left) - 1;
        left = Math.ceil(left / 32);
      }
    },
  };
}
