// Made traces of chained blocks, for the cache's benchmark; the same for the same seed. What is asked of servers of language models, in
// outline: chats whose turns grow, agents who share long system prompts, documents read once, choices without any order, and
// one after the other.
import { createRandom } from './made-traces.ts';
import type { Trace } from './traces.ts';

export interface ChainMaker {
  /** The blocks of one request, from its first on. */
  next(): number[];
}

interface Numbers {
  random(): number;
  below(n: number): number;
  /** Names of blocks that nobody has had before. */
  fresh(count: number): number[];
}

function createNumbers(seed: number): Numbers {
  const random = createRandom(seed);
  let given = 0;
  return {
    random,
    below: (n) => Math.floor(random() * n),
    fresh: (count) => Array.from({ length: count }, () => given++),
  };
}

/** Sessions under way: each turn goes on from what was said before; some end, and others begin behind one of a few prompts. */
function chats({ below, random, fresh }: Numbers, sessions: number, prompts: number): ChainMaker {
  const shared = Array.from({ length: prompts }, () => fresh(1 + below(8)));
  const begin = () => [...(shared[Math.floor(prompts * random() ** 3)] ?? [])];
  const open = Array.from({ length: sessions }, begin);
  return {
    next() {
      const at = below(sessions);
      const said = [...(open[at] ?? begin()), ...fresh(1 + below(6))];
      open[at] = random() < 0.2 ? begin() : said;
      return said;
    },
  };
}

/** Few agents, each with a long prompt and tools behind it; a task is a handful of calls that grow. */
function agents({ below, random, fresh }: Numbers, count: number): ChainMaker {
  const prompts = Array.from({ length: count }, () => fresh(20 + below(60)));
  let task: number[] = [];
  let left = 0;
  return {
    next() {
      if (left-- <= 0) {
        task = [...(prompts[Math.floor(count * random() ** 2)] ?? [])];
        left = below(6);
      }
      task = [...task, ...fresh(1 + below(10))];
      return task;
    },
  };
}

/** Documents that are read once, and now and then one that is asked about again and again for a while. */
function documents({ below, random, fresh }: Numbers): ChainMaker {
  let asked = fresh(40);
  return {
    next() {
      if (random() < 0.02) asked = fresh(20 + below(60));
      return random() < 0.3 ? [...asked, ...fresh(1)] : fresh(10 + below(50));
    },
  };
}

/** Any of so many chains, some more often than others, in no order. */
function anyOf({ below, random, fresh }: Numbers, count: number): ChainMaker {
  const chains = Array.from({ length: count }, () => fresh(2 + below(20)));
  return { next: () => chains[Math.floor(count * random() ** 2)] ?? [] };
}

/** All of so many chains, one after the other, over and over. */
function loop({ below, fresh }: Numbers, count: number): ChainMaker {
  const chains = Array.from({ length: count }, () => fresh(2 + below(20)));
  let at = 0;
  return { next: () => chains[at++ % count] ?? [] };
}

function mix({ random }: Numbers, ...makers: ChainMaker[]): ChainMaker {
  return { next: () => makers[Math.floor(makers.length * random())]?.next() ?? [] };
}

/** So many requests of each, one after the other. */
export function chainTrace(name: string, requests: number, makers: readonly ChainMaker[]): Trace {
  const keys: number[] = [];
  const chains: number[] = [];
  for (const maker of makers)
    for (let i = 0; i < requests / makers.length; i++) {
      chains.push(keys.length);
      keys.push(...maker.next());
    }
  const distinct = keys.reduce((most, key) => Math.max(most, key), -1) + 1;
  return { name, keys: Uint32Array.from(keys), bytes: undefined, distinct, chains: Uint32Array.from(chains) };
}

export function madeChains(requests: number, seed = 1): Trace[] {
  const n = createNumbers(seed);
  const trace = (name: string, ...makers: ChainMaker[]) => chainTrace(name, requests, makers);
  return [
    trace('chats', chats(n, requests >> 4, 20)),
    trace('few chats', chats(n, requests >> 7, 4)),
    trace('agents', agents(n, 40)),
    trace('documents', documents(n)),
    trace('any of many', anyOf(n, requests >> 3)),
    trace('loop', loop(n, requests >> 4)),
    trace('chats and documents', mix(n, chats(n, requests >> 5, 20), documents(n))),
    trace(
      'agents, chats, documents, any',
      agents(n, 60),
      chats(n, requests >> 5, 10),
      documents(n),
      anyOf(n, requests >> 4),
    ),
    trace('chats, loop, chats', chats(n, requests >> 5, 10), loop(n, requests >> 5), chats(n, requests >> 5, 10)),
  ];
}
