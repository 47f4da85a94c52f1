// Whom of several to put in charge, by how each would have done, over two horizons. Pure. The long one: ratios, smoothed, compared at
// every review; another is chosen who is better by more than noise, and not again before the choice had time to prove itself. The
// short one: the lead of each over the one in charge since it last had none, less a toll; it is noticed at once when the load turns
// into another on which somebody is better by far, and then what was before says nothing any more.
// Who falls short in charge of what his shadow promised is believed less for a while.

export interface ChoiceSettings {
  /** What a review's own period counts for, against all before. */
  readonly smoothing: number;
  /** The hit ratio by which another has to be better. */
  readonly margin: number;
  /** Who has just come stays for so many reviews … */
  readonly dwell: number;
  /** … unless another is better by as much as this. */
  readonly marginUrgent: number;
}

/** Requests that all were asked, in the worth of their hits. */
export interface Round {
  readonly requests: number;
  readonly worth: number;
  /** What the cache itself had. */
  readonly held: number;
  /** What each candidate would have had. */
  readonly won: readonly number[];
}

export interface Choice {
  /** By candidate, smoothed. */
  ratioOf(at: number): number;
  /** Who should be in charge after this round; shadows have so many entries. */
  count(round: Round, inCharge: number, shadowEntries: number): number;
  /** Who should be in charge after all rounds since the last review. */
  review(inCharge: number): number;
  /** Somebody else is in charge from now on. */
  begin(): void;
  /** Hits are worth something else from now on: what was counted says nothing any more. */
  forget(): void;
}

/** What a lead loses at every request, so that only large ones grow. */
const TOLL = 0.05;
/** The lead, in requests, at which the load is another: so many, or a share of the entries, as a change has its price. */
const LEAD_MIN = 16;
const LEAD_PER_ENTRY = 0.125;
/** What a round counts for in the ratios that are left when the load has turned. */
const RECENT = 0.25;
const SHORTFALL_DECAY = 0.95;

interface Candidate {
  /** Since the last review. */
  won: number;
  ratio: number;
  recent: number;
  lead: number;
  /** What it fell short of its shadow by when it was last in charge; it heals. */
  shortfall: number;
}

const promise = ({ ratio, shortfall }: Candidate): number => ratio - Math.max(0, shortfall);

export function createChoice(candidates: number, settings: ChoiceSettings): Choice {
  const all = Array.from(
    { length: candidates },
    (): Candidate => ({
      ...{ won: 0, ratio: 0, recent: 0, lead: 0, shortfall: 0 },
    }),
  );
  let worth = 0;
  let held = 0;
  let reviews = 0;
  let isFirstRound = true;
  /** Reviews that the ratios come from, as far as that matters. */
  let reviewed = 0;

  function best(worthBy: (one: Candidate) => number): number {
    const values = all.map(worthBy);
    return values.indexOf(Math.max(...values));
  }

  function clear(): void {
    for (const one of all) one.won = 0;
    worth = held = 0;
  }

  function add(one: Candidate, own: number, inCharge: number, round: Round): void {
    one.won += own;
    one.recent += (isFirstRound ? 1 : RECENT) * (own / round.worth - one.recent);
    one.lead = Math.max(0, one.lead + ((own - inCharge) / round.worth - TOLL) * round.requests);
  }

  return {
    ratioOf: (at) => all[at]?.ratio ?? 0,
    count(round, inCharge, shadowEntries) {
      if (round.worth <= 0) return inCharge;
      worth += round.worth;
      held += round.held;
      all.forEach((one, at) => {
        add(one, round.won[at] ?? 0, round.won[inCharge] ?? 0, round);
      });
      isFirstRound = false;
      const leader = best(({ lead }) => lead);
      const lead = all[leader]?.lead ?? 0;
      if (lead < Math.max(LEAD_MIN, LEAD_PER_ENTRY * shadowEntries)) return inCharge;
      for (const one of all) one.ratio = one.recent;
      reviewed = 1;
      clear();
      return leader;
    },
    review(inCharge) {
      if (worth <= 0) return inCharge;
      // The mean of all at first, as long as each counts for more than it will.
      const weight = Math.max(settings.smoothing, 1 / ++reviewed);
      all.forEach((one, at) => {
        one.ratio += weight * (one.won / worth - one.ratio);
        if (at === inCharge) one.shortfall += settings.smoothing * ((one.won - held) / worth - one.shortfall);
        else one.shortfall *= SHORTFALL_DECAY;
      });
      reviews++;
      clear();
      const leader = best(promise);
      const [holder, other] = [all[inCharge] as Candidate, all[leader] as Candidate];
      const gap = promise(other) - promise(holder);
      const isDue = reviews >= settings.dwell || gap > settings.marginUrgent;
      return isDue && gap > settings.margin ? leader : inCharge;
    },
    begin() {
      for (const one of all) one.lead = 0;
      reviews = 0;
    },
    forget() {
      clear();
      for (const one of all) one.lead = one.shortfall = 0;
      isFirstRound = true;
      reviewed = 0;
    },
  };
}
