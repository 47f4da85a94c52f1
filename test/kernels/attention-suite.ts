// Attention as it is planned, on one adapter, against its definition in f64 over what the codecs' own decoders give: a
// relative error of 2e-6 in the outputs. Records of tokens that are not there are NaN, pages lie in no order, and what runs
// is what a plan says. Each mix of codecs and dimension is pipelines to compile, so that every shape is tried with one mix
// and every mix with few shapes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { recordCodec } from '../../core/codec/record-codecs.ts';
import { type Attention, mergeResults, NOTHING } from '../../shaders/attention.ts';
import { attend } from '../../shaders/attention-references.ts';
import type { RecordName } from '../../shaders/records.ts';
import { type Seeded, seeded } from '../support/seeded.ts';
import { openSource, type Source, workOn } from './adapters.ts';
import { errorOf, makeSequence, normal, openRoom, type Room } from './attention-sequences.ts';

const OUTPUT_ERROR = 2e-6;
const EXPONENT_ERROR = 1e-5;
const ARENA_BYTES = 16 << 20;

interface Trial {
  readonly kvHeads: number;
  readonly group: number;
  readonly dim: number;
  readonly tokens: number;
  readonly queries: number;
  readonly keys: RecordName;
  readonly values: RecordName;
  readonly more?: Partial<Attention>;
  readonly productsMax?: number;
}

const MIX = { dim: 128, keys: 'f16', values: 'tq4' } as const;
const SHAPES: readonly Trial[] = [
  ...[1, 63, 64, 65].map((tokens) => ({ ...MIX, kvHeads: 2, group: 4, tokens, queries: 1 })),
  { ...MIX, kvHeads: 2, group: 4, tokens: 1000, queries: 1 },
  { ...MIX, kvHeads: 1, group: 1, tokens: 1000, queries: 16, more: { biased: true } },
  { ...MIX, kvHeads: 3, group: 5, tokens: 200, queries: 3, more: { causal: false } },
  { ...MIX, kvHeads: 2, group: 2, tokens: 333, queries: 7, more: { window: 70, biased: true } },
  { ...MIX, kvHeads: 2, group: 2, tokens: 333, queries: 2, more: { begin: 100, end: 300 } },
  { ...MIX, kvHeads: 1, group: 2, tokens: 500, queries: 200 },
  // tiles of rows that are not full, that reach from one head into the next, that see a part of the tokens or none of them
  ...[5, 16, 17, 64, 100].map((queries) => ({ ...MIX, kvHeads: 2, group: 4, tokens: 190, queries })),
  { ...MIX, kvHeads: 3, group: 3, tokens: 300, queries: 17, more: { causal: false, biased: true } },
  { ...MIX, kvHeads: 1, group: 1, tokens: 500, queries: 100, more: { window: 33 } },
  { ...MIX, kvHeads: 2, group: 1, tokens: 300, queries: 65, more: { window: 70, begin: 102, end: 297 } },
  { ...MIX, kvHeads: 1, group: 2, tokens: 65, queries: 40, more: { position: 0, begin: 21 } },
  // in spans, so that their results are merged on the adapter
  { ...MIX, kvHeads: 2, group: 4, tokens: 1000, queries: 2, more: { biased: true }, productsMax: 2 ** 20 },
];
const MIXES: readonly Trial[] = (
  [
    [64, 'f32', 'f32'],
    [80, 'bf16', 'q8r'],
    [96, 'tq4', 'tcq4'],
    [256, 'tcq4', 'f16'],
    [64, 'tcq3e', 'tcq2'],
  ] as const
).flatMap(([dim, keys, values]) =>
  // rows that are few, and enough of them for tiles
  [3, 7].map((queries) => ({ dim, keys, values, kvHeads: 2, group: 3, tokens: 150, queries })),
);

/** What a trial attends to, without its pages. */
function attentionOf({ kvHeads, group, dim, keys, values, tokens, queries, more }: Trial): Omit<Attention, 'pages'> {
  return {
    ...{ heads: kvHeads * group, kvHeads, dim, keys, values, queries },
    ...{ position: Math.max(0, tokens - queries), begin: 0, end: tokens, causal: true, window: 0 },
    ...{ scale: 1 / Math.sqrt(dim), biased: false, gpu: false, ...more },
  };
}

const draw = (seed: Seeded, length: number) => {
  const next = normal(seed);
  return Float32Array.from({ length }, () => 2 * next());
};

function assertNear(got: Float32Array, wanted: Float64Array, dim: number, what: string): void {
  const { outputs, exponents } = errorOf(got, wanted, dim);
  assert.ok(outputs <= OUTPUT_ERROR && exponents <= EXPONENT_ERROR, `${what}: outputs ${outputs}, lse ${exponents}`);
}

async function tryOne(room: Room, seed: Seeded, trial: Trial): Promise<void> {
  const sequence = makeSequence(seed, trial, recordCodec(trial.keys), recordCodec(trial.values));
  room.clear();
  const attention: Attention = { ...attentionOf(trial), pages: room.store(sequence.pages) };
  const { heads, queries, dim } = attention;
  const query = draw(seed, heads * queries * dim);
  const bias = attention.biased ? draw(seed, heads * queries) : undefined;
  const wanted = attend(query, sequence, attention, bias);
  for (const gpu of trial.keys === MIX.keys ? [false, true] : [false]) {
    const got = await room.attend({ ...attention, gpu }, query, bias, trial.productsMax);
    assertNear(got, wanted, dim, `${JSON.stringify({ ...trial, gpu })}, SEED=${seed.seed}`);
  }
}

export async function testAttentionOn(source: Source): Promise<void> {
  const opened = await openSource(source);
  if (typeof opened === 'string') {
    test(source, { skip: opened }, () => {});
    return;
  }
  const { device, errors } = opened;
  const { kernels } = workOn(opened);
  const room = openRoom(device, kernels, ARENA_BYTES);
  after(() => {
    assert.deepEqual(errors, []);
    device.destroy();
  });

  test(`${source}: any number of tokens and queries, causal or not, in a window, from and to any position`, async () => {
    const seed = seeded();
    for (const trial of SHAPES) await tryOne(room, seed, trial);
  });

  test(`${source}: every codec and dimension, in any mix of keys and values`, async () => {
    const seed = seeded();
    for (const trial of MIXES) await tryOne(room, seed, trial);
  });

  test(`${source}: a tail in other pages, of another codec or decoded, merges to the whole`, async () => {
    const seed = seeded();
    const shape = { kvHeads: 2, group: 4, tokens: 300, queries: 2 };
    const coded: Trial = { ...MIX, ...shape };
    const plain: Trial = { dim: 64, keys: 'f32', values: 'f32', ...shape };
    for (const trial of [coded, plain]) {
      const sequence = makeSequence(seed, trial, recordCodec(trial.keys), recordCodec(trial.values));
      room.clear();
      const stored = room.store(sequence.pages);
      const base = attentionOf(trial);
      const query = draw(seed, base.heads * base.queries * base.dim);
      const wanted = attend(query, sequence, base);
      // positions cut anywhere: not at the edge of a page
      const cuts = [0, 4, 170, 300];
      const results = [];
      for (const [i, begin] of cuts.slice(0, -1).entries())
        results.push(await room.attend({ ...base, pages: stored, begin, end: cuts[i + 1] ?? 0 }, query));
      assertNear(mergeResults(results, base.dim), wanted, base.dim, `${trial.keys} in parts, SEED=${seed.seed}`);
      if (trial !== plain) continue;
      const [first, ...others] = sequence.pages;
      const decoded = first ? [room.storeDecoded(first, 0)] : [];
      const pages = [...decoded, ...stored.slice(1, 1 + others.length)];
      assertNear(await room.attend({ ...base, pages }, query), wanted, base.dim, 'a page in scratch');
    }
  });

  test(`${source}: what sees nothing gives zeros and NOTHING`, async () => {
    const seed = seeded();
    const trial: Trial = { ...MIX, kvHeads: 1, group: 2, tokens: 65, queries: 4, more: { position: 0, begin: 2 } };
    const sequence = makeSequence(seed, trial, recordCodec(trial.keys), recordCodec(trial.values));
    room.clear();
    const attention: Attention = { ...attentionOf(trial), pages: room.store(sequence.pages) };
    const query = draw(seed, 8 * 128);
    const got = await room.attend(attention, query);
    assertNear(got, attend(query, sequence, attention), 128, 'some rows see nothing');
    assert.deepEqual([...got.subarray(8 * 128, 8 * 128 + 2)], [NOTHING, NOTHING]);
    assert.ok(got.subarray(0, 256).every((value) => value === 0));
    const none = await room.attend({ ...attention, pages: [] }, query);
    assert.ok(none.subarray(0, 8 * 128).every((value) => value === 0) && none.at(-1) === NOTHING);
  });

  test(`${source}: pages of several layers lie side by side`, async () => {
    const seed = seeded();
    const trial: Trial = { ...MIX, kvHeads: 2, group: 4, tokens: 130, queries: 1 };
    const codecs = [recordCodec(trial.keys), recordCodec(trial.values)] as const;
    const layers = [1, 2, 3].map(() => makeSequence(seed, trial, ...codecs));
    room.clear();
    const stored = layers.map(({ pages }) => room.store(pages));
    const query = draw(seed, 8 * 128);
    for (const [layer, sequence] of layers.entries()) {
      const attention: Attention = { ...attentionOf(trial), pages: stored[layer] ?? [] };
      assertNear(await room.attend(attention, query), attend(query, sequence, attention), 128, `layer ${layer}`);
    }
  });
}
