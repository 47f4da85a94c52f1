// Whether codecs still keep what they promise of what is really stored. For a share of the attention that is asked, blocks of
// its sequence that are still exact and wait to be coded (the latest ones) are coded on the side, in pages that nobody else
// sees, and attention over those is compared with attention over the exact ones: the relative L2 distance of the outputs.
// Where that stays far beyond what the codecs' own errors explain, an alarm is raised: K or V that a codec does not suit, a mean
// that no longer fits its chain, a kernel that is broken.
// It comes after the answer, one look at a time, and takes free room only: nobody waits for it or leaves for it. What fails is
// counted, and is nobody's fault but its own.
import { attend, lastOf, type Query } from '../../codec/attention.ts';
import { BLOCK_TOKENS, type Form, isRotated, sameForm } from '../../codec/pages.ts';
import { RELATIVE_ERRORS } from '../../codec/relative-errors.ts';
import type { Root } from './blocks.ts';
import type { Held, HeldPages, KvBlock } from './held.ts';
import { recodeLayer } from './recode.ts';

export interface CanaryOptions {
  readonly held: Pick<HeldPages, 'blocks' | 'read' | 'freeLease' | 'hasRoom' | 'release'>;
  /** Of all that is asked, 0 to 1. */
  readonly share: number;
  readonly random: () => number;
  /** Software adapters have kernels of their own. */
  readonly isGpu: (adapter: string) => boolean;
  readonly log: (line: string) => void;
}

/** Attention that was answered. */
export interface Heard {
  readonly root: Root;
  /** Those that it read, which are held until `consider` returns. */
  readonly blocks: readonly KvBlock[];
  readonly query: Query;
}

export interface CanaryPair {
  readonly codecK: Form['k'];
  readonly codecV: Form['k'];
  readonly looks: number;
  /** Of attention's outputs, relative: the latest looks count most. */
  readonly error: number;
  /** Beyond this it is an alarm. */
  readonly errorMax: number;
  readonly alarm: boolean;
}

export interface CanaryStats {
  readonly looks: number;
  /** For want of room, or of something to compare, or as the one before was not done. */
  readonly skipped: number;
  readonly failed: number;
  readonly pairs: readonly CanaryPair[];
}

export interface Canary {
  /** Looks at some of what is heard, later. */
  consider(heard: Heard): void;
  /** Resolves when no look is under way. */
  idle(): Promise<void>;
  stats(): CanaryStats;
}

/** Of one look: seconds on the slowest adapter, unless it is stuck. */
const LOOK_MS_MAX = 30_000;
const BLOCKS_MAX = 4;
const QUERIES_MAX = 16;
/** Before it is an alarm. */
const LOOKS_MIN = 8;
const WEIGHT = 1 / 8;
/** Attention's error over the sum of the errors of K and V: about 2 where logits have a deviation of 2, and it grows with that. */
const BEYOND = 5;

interface Pair {
  readonly codecK: Form['k'];
  readonly codecV: Form['k'];
  looks: number;
  error: number;
}

export function createCanary({ held, share, random, isGpu, log }: CanaryOptions): Canary {
  const pairs = new Map<string, Pair>();
  let looking: Promise<void> | undefined;
  let looks = 0;
  let skipped = 0;
  let failed = 0;

  function consider(heard: Heard): void {
    if (random() >= share) return;
    const blocks = comparable(heard.blocks);
    if (blocks.length === 0 || looking) return void skipped++;
    const letGo = held.blocks.hold(heard.blocks); // now: they are held no longer than this call
    const reading = held.read(blocks);
    looking = look(heard, blocks, reading.pages)
      .catch((error: unknown) => {
        failed++;
        log(`the canary could not compare codecs with what they stand for: ${String(error)}`);
      })
      .finally(() => {
        reading.release();
        letGo();
        looking = undefined;
      });
  }

  async function look({ root, query }: Heard, blocks: readonly KvBlock[], exact: readonly Held[]): Promise<void> {
    const coded = await codedOf(root, blocks, exact, query.layer);
    if (!coded) return void skipped++;
    try {
      const [wanted] = coded;
      if (!wanted) return;
      const asked = await Promise.all([exact, coded].map((pages) => outputs(root, pages, query)));
      const [truth, answer] = asked;
      if (truth && answer) note(wanted.form, distance(truth, answer));
    } finally {
      for (const { lease } of coded) held.release(lease);
    }
  }

  /** The same blocks as they are to be; undefined where there is no room on the side. */
  async function codedOf(
    { shape }: Root,
    blocks: readonly KvBlock[],
    exact: readonly Held[],
    layer: number,
  ): Promise<Held[] | undefined> {
    const coded: Held[] = [];
    try {
      for (const [i, from] of exact.entries()) {
        const wanted = { tenant: blocks[i]?.kept.tenant ?? '', shape, form: from.wanted };
        const lease = held.hasRoom(wanted) ? held.freeLease(wanted, from.lease.adapter) : undefined;
        if (!lease) break;
        const to = { ...from, lease, form: from.wanted };
        coded.push(to);
        await recodeLayer(shape, layer, from, to, AbortSignal.timeout(LOOK_MS_MAX));
      }
      if (coded.length === exact.length) return coded;
    } catch (error) {
      for (const { lease } of coded) held.release(lease);
      throw error;
    }
    for (const { lease } of coded) held.release(lease);
    return undefined;
  }

  /** Everything is seen by the last queries. */
  async function outputs({ shape, rope }: Root, pages: readonly Held[], query: Query): Promise<Float32Array> {
    const few = { ...lastOf(query, QUERIES_MAX), causal: false, window: 0 };
    const tokens = pages.length * BLOCK_TOKENS;
    const signal = AbortSignal.timeout(LOOK_MS_MAX);
    return (await attend({ shape, rope, pages, tokens, query: few, isGpu, signal })).o;
  }

  function note({ k, v }: Form, error: number): void {
    looks++;
    const name = `${k} ${v}`;
    const pair = pairs.get(name) ?? { codecK: k, codecV: v, looks: 0, error };
    pair.looks++;
    pair.error += Math.max(WEIGHT, 1 / pair.looks) * (error - pair.error);
    pairs.set(name, pair);
    const { alarm, errorMax } = told(pair);
    if (alarm && pair.looks === LOOKS_MIN)
      log(
        `ALARM: attention over ${k} and ${v} is ${pair.error.toFixed(3)} off on what is stored, ${errorMax.toFixed(3)} at most is explained by the codecs`,
      );
  }

  return {
    consider,
    idle: async () => looking,
    stats: () => ({ looks, skipped, failed, pairs: [...pairs.values()].map(told) }),
  };
}

const told = ({ codecK, codecV, looks, error }: Pair): CanaryPair => {
  const errorMax = BEYOND * (Math.sqrt(RELATIVE_ERRORS[codecK]) + Math.sqrt(RELATIVE_ERRORS[codecV]));
  return { codecK, codecV, looks, error, errorMax, alarm: looks >= LOOKS_MIN && !(error <= errorMax) };
};

/** The latest of those that are exact and wait to be coded in one way, on one adapter. */
function comparable(blocks: readonly KvBlock[]): KvBlock[] {
  const waiting = blocks.filter(
    ({ removed, kept: { hot } }) => !removed && hot && isExact(hot.form) && !sameForm(hot.form, hot.wanted),
  );
  const last = waiting.at(-1)?.kept.hot;
  const alike = ({ kept: { hot } }: KvBlock) =>
    hot && last && sameForm(hot.wanted, last.wanted) && hot.lease.adapter === last.lease.adapter;
  return waiting.filter(alike).slice(-BLOCKS_MAX);
}

const isExact = ({ k, v }: Form): boolean => !isRotated(k) && !isRotated(v);

/** Relative, in L2. */
function distance(truth: Float32Array, answer: Float32Array): number {
  let [off, all] = [0, 0];
  for (const [i, value] of truth.entries()) {
    off += ((answer[i] ?? 0) - value) ** 2;
    all += value ** 2;
  }
  return all > 0 ? Math.sqrt(off / all) : Number(off > 0);
}
