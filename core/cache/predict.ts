// Which keys a tenant asks for next, by what it has asked for: the next numbers of a run (layer/7, layer/8: then layer/9), and what
// has followed a key before. Tenants never teach each other. All of it is bounded; what was not seen for longest is forgotten.
// A guess only: it knows names and their order, not what is held. Pure.

/** Keys, the likeliest first. */
export interface Predictor {
  /** The tenant asks for `key`: what may come next. */
  next(tenant: string, key: string): string[];
}

export interface PredictorBounds {
  readonly tenantsMax: number;
  /** Of one tenant: names that go on by numbers, and keys whose successor is known. */
  readonly runsMax: number;
  readonly successorsMax: number;
  /** Keys of one prediction, by each of the two ways. */
  readonly aheadMax: number;
}

const BOUNDS: PredictorBounds = { tenantsMax: 256, runsMax: 64, successorsMax: 4096, aheadMax: 4 };

/** A successor is believed once it has been seen so often more than others. */
const SURE_FROM = 2;
const SURE_MAX = 7;
/** The last number in a name; longer ones are identities rather than places in a run. */
const NUMBERED = /^(.*?)(\d{1,12})(\D*)$/s;

interface Run {
  last: number;
  /** How many steps of one it has gone on by. */
  steps: number;
}

interface Successor {
  key: string;
  sure: number;
}

interface Tenant {
  readonly runs: Map<string, Run>;
  readonly successors: Map<string, Successor>;
  last: string | undefined;
}

export function createPredictor(bounds: Partial<PredictorBounds> = {}): Predictor {
  const { tenantsMax, runsMax, successorsMax, aheadMax } = { ...BOUNDS, ...bounds };
  const tenants = new Map<string, Tenant>();

  function byNumber({ runs }: Tenant, key: string): string[] {
    const [, before = '', digits, after = ''] = NUMBERED.exec(key) ?? [];
    if (digits === undefined) return [];
    const stem = `${before}\0${after}`;
    const number = Number(digits);
    const run = runs.get(stem) ?? { last: number, steps: 0 };
    if (number !== run.last) run.steps = number === run.last + 1 ? run.steps + 1 : 0;
    run.last = number;
    keep(runs, stem, run, runsMax);
    const ahead = Math.min(run.steps, aheadMax);
    // Numbers of one width keep it.
    return Array.from(
      { length: ahead },
      (_, i) => `${before}${String(number + 1 + i).padStart(digits.length, '0')}${after}`,
    );
  }

  function bySuccession(of: Tenant, key: string): string[] {
    if (of.last !== undefined && of.last !== key) learn(of, of.last, key);
    of.last = key;
    const found: string[] = [];
    for (let next = of.successors.get(key); next && next.sure >= SURE_FROM; next = of.successors.get(next.key)) {
      if (next.key === key || found.includes(next.key) || found.length === aheadMax) break;
      found.push(next.key);
    }
    return found;
  }

  function learn({ successors }: Tenant, before: string, key: string): void {
    const known = successors.get(before) ?? { key, sure: 0 };
    if (known.key === key) known.sure = Math.min(known.sure + 1, SURE_MAX);
    else if (--known.sure <= 0) Object.assign(known, { key, sure: 1 });
    keep(successors, before, known, successorsMax);
  }

  return {
    next(tenant, key) {
      const of = tenants.get(tenant) ?? { runs: new Map(), successors: new Map(), last: undefined };
      keep(tenants, tenant, of, tenantsMax);
      return [...new Set([...byNumber(of, key), ...bySuccession(of, key)])];
    },
  };
}

/** Last in line; the first goes when there are too many. */
function keep<V>(map: Map<string, V>, key: string, value: V, max: number): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}
