// One adapter's process in the attention benchmark: makes pages, checks each answer against the definition in f64, then
// measures codecs and rivals in turns and writes one line of JSON. Settings come in argv; which adapter, the environment says.
// 8 kv heads, 32 heads, 128 dimensions. Records are of 256 different vectors; pages fill 128 MiB at most for each codec, and
// a longer context meets them again.
import { recordCodec } from '../../core/codec/record-codecs.ts';
import type { AnyDispatch, BufferRange } from '../../core/gpu/kernel-choice.ts';
import { openKernels } from '../../core/gpu/kernels.ts';
import {
  adapterName,
  capabilitiesOf,
  isSoftware,
  openAdapter,
  requestKernelDevice,
} from '../../core/gpu/open-adapter.ts';
import { hurry, paceGpuPolling } from '../../core/gpu/pace.ts';
import {
  type Attention,
  emptyResult,
  type KvPage,
  PAGE_TOKENS,
  placeResult,
  planAttention,
  type Range,
  resultFloats,
  rowsOf,
  SCRATCH_BYTES,
} from '../../shaders/attention.ts';
import { attend } from '../../shaders/attention-references.ts';
import type { RecordName } from '../../shaders/records.ts';
import { openGroupQuery } from './attention-onnx.ts';
import {
  ANSWERED,
  ASKED,
  type AttentionAnswer,
  type AttentionSettings,
  type AttentionTimes,
} from './attention-times.ts';
import { createDesk, type Desk, makeFloats } from './kernel-subjects.ts';
import { WrongAnswer } from './report.ts';
import { type Rival, takeTurns } from './rounds.ts';
import { median } from './statistics.ts';

const [KV_HEADS, HEADS, DIM] = [8, 32, 128];
const CODECS = ['f32', 'f16', 'q8r', 'tq4', 'tcq4', 'tcq2'] as const;
const CODECS_QUICK = ['f16', 'tq4', 'tcq4'] as const;
const PREFILL_CODECS = ['f16', 'tq4', 'tcq4'] as const;
const ARENA_BYTES = 128 << 20;
const COPY_BYTES = 32 << 20;
const VECTORS = 256;
const SAMPLE_MS = 50;
/** Rows whose answers are computed and compared. */
const CHECKED = 24;
const SCALE = 1 / Math.sqrt(DIM);

interface Work {
  readonly work: 'decode' | 'prefill';
  readonly tokens: number;
  readonly queries: number;
}

const settings = JSON.parse(process.argv[2] ?? '{}') as AttentionSettings;
paceGpuPolling();
const say = (answer: AttentionAnswer) => process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit());

const adapter = await openAdapter({ loader: settings.loader });
if (!adapter) say({ missing: 'no adapter' });
else
  await measureAll(adapter).then(say, (error: unknown) =>
    say({ failed: String(error), wrong: error instanceof WrongAnswer }),
  );

async function measureAll(adapter: GPUAdapter): Promise<AttentionAnswer> {
  const device = await requestKernelDevice(adapter);
  const capabilities = capabilitiesOf(adapter, device);
  const desk = createDesk(device, openKernels(device, capabilities));
  const software = isSoftware(adapter);
  const works: Work[] = [
    ...(settings.quick ? [1024, 4096] : [1024, 4096, 16_384, 65_536]).map((tokens): Work => {
      return { work: 'decode', tokens, queries: 1 };
    }),
    ...(settings.quick ? [512] : [512, 2048]).map((tokens): Work => ({ work: 'prefill', tokens, queries: tokens })),
  ];
  const copyBytesPerMs = await measureCopy(desk);
  const room = openRoom(desk);
  const times: AttentionTimes[] = [];
  const peers = new Set<string>();
  for (const work of works) {
    const element = settings.peer === 'f16' && capabilities.has.has('shader-f16') ? 'f16' : 'f32';
    times.push(...(await measureWork(desk, room, work, !software, element, peers)));
  }
  return { adapter: adapterName(adapter), software, copyBytesPerMs, times, peers: [...peers] };
}

async function measureCopy(desk: Desk): Promise<number> {
  const [source, target] = [desk.buffer(COPY_BYTES), desk.buffer(COPY_BYTES)];
  const copy: AnyDispatch = {
    ...{ kernel: 'copy', parameters: { words: COPY_BYTES / 4 }, bindings: { source, target } },
  };
  await timeOf(desk, [copy]);
  const ms: number[] = [];
  for (let i = 0; i < 7; i++) ms.push(await timeOf(desk, [copy]));
  for (const { buffer } of [source, target]) {
    desk.kernels.forget(buffer);
    buffer.destroy();
  }
  return (2 * COPY_BYTES) / median(ms);
}

async function timeOf({ device, kernels }: Desk, dispatches: readonly AnyDispatch[]): Promise<number> {
  const began = performance.now();
  hurry();
  await kernels.run(dispatches);
  await device.queue.onSubmittedWorkDone();
  return performance.now() - began;
}

// ---- pages

/** Which of the vectors is a token's: keys have the first half of them, values the second. */
function numberOf(kv: number, token: number): number {
  return (Math.imul(kv * 65_537 + token, 0x9e37_79b1) >>> 8) % (VECTORS / 2);
}

function openRoom(desk: Desk) {
  const scratch = [0, 1, 2, 3].map(() => desk.buffer(SCRATCH_BYTES));
  const bufferOf = ({ at }: Range, arena: BufferRange): GPUBuffer =>
    ('scratch' in at ? (scratch[at.scratch] ?? arena) : arena).buffer;
  return {
    place: (range: Range, arena: BufferRange): BufferRange => ({
      ...{ buffer: bufferOf(range, arena), offset: range.offset, size: range.size },
    }),
    write: (range: Range, data: Float32Array | Uint32Array): void => {
      const own = 'scratch' in range.at ? scratch[range.at.scratch] : undefined;
      if (own) desk.device.queue.writeBuffer(own.buffer, range.offset, data as GPUAllowSharedBufferSource);
    },
  };
}
type Room = ReturnType<typeof openRoom>;

function storePages(desk: Desk, name: RecordName, tokens: number) {
  const codec = recordCodec(name);
  const words = codec.words(DIM);
  const source = makeFloats(VECTORS * DIM).map((x) => x * 2);
  const records = new Uint32Array(VECTORS * words);
  const vectors = new Float32Array(VECTORS * DIM);
  for (let i = 0; i < VECTORS; i++) {
    const record = records.subarray(i * words, (i + 1) * words);
    codec.encode(source.subarray(i * DIM, (i + 1) * DIM), record);
    codec.decode(record, vectors.subarray(i * DIM, (i + 1) * DIM));
  }
  const pageWords = 2 * KV_HEADS * PAGE_TOKENS * words;
  const pageBytes = Math.ceil((pageWords * 4) / 256) * 256;
  const count = Math.min(tokens / PAGE_TOKENS, Math.floor(ARENA_BYTES / pageBytes));
  const arena = desk.buffer(count * pageBytes);
  const page = new Uint32Array(pageWords);
  for (let block = 0; block < count; block++) {
    for (let i = 0; i < 2 * KV_HEADS * PAGE_TOKENS; i++) {
      const kv = Math.floor(i / PAGE_TOKENS) % KV_HEADS;
      const half = i < KV_HEADS * PAGE_TOKENS ? 0 : VECTORS / 2;
      const from = (numberOf(kv, block * PAGE_TOKENS + (i % PAGE_TOKENS)) + half) * words;
      page.set(records.subarray(from, from + words), i * words);
    }
    desk.device.queue.writeBuffer(arena.buffer, block * pageBytes, page);
  }
  const pages = Array.from({ length: tokens / PAGE_TOKENS }, (_, i): KvPage => {
    return { at: { binding: 0 }, offset: (i % count) * pageBytes, position: i * PAGE_TOKENS };
  });
  /** The numbers that those pages stand for: kv heads x tokens x dim. */
  const spread = (half: number, heads: readonly number[]) => {
    const all = new Float32Array(heads.length * tokens * DIM);
    for (const [place, kv] of heads.entries())
      for (let token = 0; token < tokens; token++) {
        const from = (numberOf(kv, token % (count * PAGE_TOKENS)) + half) * DIM;
        all.set(vectors.subarray(from, from + DIM), (place * tokens + token) * DIM);
      }
    return all;
  };
  return {
    arena,
    pages,
    storedBytes: (tokens / PAGE_TOKENS) * pageWords * 4,
    keys: spread.bind(null, 0),
    values: spread.bind(null, VECTORS / 2),
  };
}

// ---- one context length

async function measureWork(
  desk: Desk,
  room: Room,
  work: Work,
  gpu: boolean,
  element: 'f32' | 'f16',
  peers: Set<string>,
): Promise<AttentionTimes[]> {
  const { tokens, queries } = work;
  const query = makeFloats(HEADS * queries * DIM).map((x) => x * 4);
  const seen = queries === 1 ? tokens : (tokens * (tokens + 1)) / 2;
  const products = 2 * 2 * HEADS * DIM * seen;
  const rounds = settings.quick ? 3 : tokens * queries > 2 ** 20 ? 3 : 9;
  const stored = new Map<string, number>();
  const arenas: BufferRange[] = [];
  const rivals: Rival<void>[] = [];
  for (const name of work.work === 'prefill' ? PREFILL_CODECS : settings.quick ? CODECS_QUICK : CODECS) {
    const { arena, pages, storedBytes, keys, values } = storePages(desk, name, tokens);
    arenas.push(arena);
    const attention: Attention = {
      ...{ heads: HEADS, kvHeads: KV_HEADS, dim: DIM, keys: name, values: name, pages, queries },
      ...{
        position: tokens - queries,
        begin: 0,
        end: tokens,
        causal: true,
        window: 0,
        scale: SCALE,
        biased: false,
        gpu,
      },
    };
    const runs = planAttention(attention).map((run) => {
      const dispatches = run.steps.map((step) => {
        const bindings = Object.entries(step.bindings).map(([binding, range]) => [binding, room.place(range, arena)]);
        return { ...step, bindings: Object.fromEntries(bindings) } as AnyDispatch;
      });
      const prepare = () => {
        room.write(run.queries, rowsOf(query, attention, run));
        room.write(run.table, run.tableWords);
      };
      return { run, dispatches, prepare };
    });
    const result = emptyResult(attention);
    for (const { run, dispatches, prepare } of runs) {
      prepare();
      await desk.kernels.run(dispatches);
      const bytes = await desk.read(room.place(run.result, arena), 0, resultFloats(HEADS * run.count, DIM) * 4);
      placeResult(result, attention, run, new Float32Array(bytes));
    }
    check(`${tokens} ${name}`, work, query, (row) => result.subarray(row * DIM, (row + 1) * DIM), keys, values, 1e-5);
    const once = async () => {
      const began = performance.now();
      hurry();
      for (const { dispatches, prepare } of runs) {
        prepare();
        await desk.kernels.run(dispatches);
      }
      await desk.device.queue.onSubmittedWorkDone();
      return performance.now() - began;
    };
    const times = Math.max(1, Math.min(50, Math.round(SAMPLE_MS / (await once()))));
    const run = async () => {
      let sum = 0;
      for (let i = 0; i < times; i++) sum += await once();
      return sum / times;
    };
    stored.set(name, storedBytes);
    rivals.push({ name, pids: [], run });
    if (name === 'f16' && settings.peer) rivals.push(...(await invite(work, query, keys, values, element, peers)));
  }
  const measured = await takeTurns({ rounds, begin: () => {}, rivals });
  for (const { buffer } of arenas) {
    desk.kernels.forget(buffer);
    buffer.destroy();
  }
  return measured.map(({ name, ms }): AttentionTimes => {
    return { work: work.work, tokens, name, products, ms, storedBytes: stored.get(name) ?? null };
  });
}

type Spread = (heads: readonly number[]) => Float32Array;

function check(
  what: string,
  { tokens, queries }: Work,
  query: Float32Array,
  outputOf: (row: number) => ArrayLike<number>,
  keys: Spread,
  values: Spread,
  bound: number,
): void {
  for (let i = 0; i < CHECKED; i++) {
    const row = Math.floor((i * (HEADS * queries - 1)) / (CHECKED - 1));
    const kv = Math.floor(row / queries / (HEADS / KV_HEADS));
    const own = query.subarray(row * DIM, (row + 1) * DIM);
    const sequence = { kvHeads: 1, dim: DIM, tokens, keys: keys([kv]), values: values([kv]) };
    const position = tokens - queries + (row % queries);
    const sight = { heads: 1, queries: 1, position, begin: 0, end: tokens, causal: true, window: 0, scale: SCALE };
    const wanted = attend(own, sequence, sight);
    const got = outputOf(row);
    let [error, size] = [0, 0];
    for (let d = 0; d < DIM; d++) {
      error += ((got[d] ?? Number.NaN) - (wanted[d] ?? 0)) ** 2;
      size += (wanted[d] ?? 0) ** 2;
    }
    if (!(Math.sqrt(error / size) <= bound))
      throw new WrongAnswer(`${what}: row ${row} is off by ${Math.sqrt(error / size)} of its length, ${bound} at most`);
  }
}

/** onnxruntime by both of its providers, asked and checked once before they are measured. */
async function invite(
  work: Work,
  query: Float32Array,
  keys: Spread,
  values: Spread,
  element: 'f32' | 'f16',
  peers: Set<string>,
): Promise<Rival<void>[]> {
  const { tokens, queries } = work;
  const all = Array.from({ length: KV_HEADS }, (_, kv) => kv);
  const rivals: Rival<void>[] = [];
  const turned = new Float32Array(query.length);
  const place = (row: number) => ((row % queries) * HEADS + Math.floor(row / queries)) * DIM;
  for (let row = 0; row < HEADS * queries; row++) turned.set(query.subarray(row * DIM, (row + 1) * DIM), place(row));
  for (const provider of ['webgpu', 'cpu'] as const) {
    const kind = provider === 'cpu' ? 'f32' : element;
    const name = `onnxruntime ${provider} ${kind}`;
    process.stdout.write(`${ASKED}\n`);
    const shape = { heads: HEADS, kvHeads: KV_HEADS, dim: DIM, tokens, queries, element: kind, provider } as const;
    const peer = await openGroupQuery(settings.peerFolder, { ...shape, keys: keys(all), values: values(all) });
    const answer = typeof peer === 'string' ? peer : await peer.run(turned).catch((error: unknown) => String(error));
    process.stdout.write(`${ANSWERED}\n`);
    if (typeof peer === 'string' || typeof answer === 'string') {
      peers.add(`${name}: ${String(typeof peer === 'string' ? peer : answer).slice(0, 200)}`);
      continue;
    }
    const bound = kind === 'f16' ? 2e-2 : 1e-3;
    try {
      check(name, work, query, (row) => answer.subarray(place(row), place(row) + DIM), keys, values, bound);
      peers.add(`${name}: ${peer.version}`);
    } catch (error) {
      peers.add(`${name}, ${work.work} ${tokens}, is wrong and was left out: ${String(error)}`);
      continue;
    }
    rivals.push({
      ...{ name, pids: [] },
      async run() {
        const began = performance.now();
        await peer.run(turned);
        return performance.now() - began;
      },
    });
  }
  return rivals;
}
