// A queue in which the order of its members may change: the first is always at hand, any can be put anew or leave, and each
// of that takes as many comparisons as the queue's length has bits. A binary heap; its members know their places in it.

export interface Queued {
  /** The queue's own; -1 for who is in none. Nobody is in two. */
  place: number;
}

export interface Queue<T extends Queued> {
  /** Its members, in no order but that the first is the first. */
  readonly all: readonly T[];
  /** In, or where it belongs now. */
  put(one: T): void;
  /** Out, if it is in. */
  delete(one: T): void;
}

export function createQueue<T extends Queued>(before: (a: T, b: T) => boolean): Queue<T> {
  const all: T[] = [];

  function seat(one: T, place: number): void {
    all[place] = one;
    one.place = place;
  }

  /** Towards the front, as far as it goes before others. */
  function rise(one: T, from: number): number {
    let place = from;
    while (place > 0) {
      const parent = all[(place - 1) >> 1];
      if (!parent || !before(one, parent)) break;
      const above = parent.place;
      seat(parent, place);
      place = above;
    }
    return place;
  }

  function sink(one: T, from: number): number {
    for (let place = from; ; ) {
      const left = all[2 * place + 1];
      const right = all[2 * place + 2];
      const next = right && left && before(right, left) ? right : left;
      if (!next || !before(next, one)) return place;
      const below = next.place;
      seat(next, place);
      place = below;
    }
  }

  const put = (one: T): void => {
    const place = one.place < 0 ? all.push(one) - 1 : one.place;
    seat(one, place);
    seat(one, sink(one, rise(one, place)));
  };

  return {
    all,
    put,
    delete(one) {
      const { place } = one;
      if (place < 0) return;
      one.place = -1;
      const last = all.pop();
      if (!last || last === one) return;
      seat(last, place);
      put(last);
    },
  };
}
