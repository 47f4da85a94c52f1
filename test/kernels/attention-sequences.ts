// Sequences to attend to: seeded keys and values as pages of records, and as the numbers that those records stand for.
// A scratch of four buffers and an arena, so that planned steps can run.
import type { RecordCodec } from '../../core/codec/codec.ts';
import type { AnyDispatch, BufferRange } from '../../core/gpu/kernel-choice.ts';
import type { Kernels } from '../../core/gpu/kernels.ts';
import {
  type Attention,
  type AttentionRun,
  emptyResult,
  type KvPage,
  PAGE_TOKENS,
  placeResult,
  planAttention,
  type Range,
  resultFloats,
  rowsOf,
  SCRATCH_BYTES,
  SCRATCH_PAGES_AT,
} from '../../shaders/attention.ts';
import type { Sequence } from '../../shaders/attention-references.ts';
import type { Seeded } from '../support/seeded.ts';
import { readBuffer } from './workbench.ts';

export function normal(seed: Seeded): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - seed.next())) * Math.cos(2 * Math.PI * seed.next());
}

export interface CodedSequence extends Sequence {
  /** Of each page, in the order of their positions. */
  readonly pages: readonly Uint32Array[];
}

/** Normal values, through the codecs; records of tokens behind the last one are anything. */
export function makeSequence(
  seed: Seeded,
  shape: Pick<Sequence, 'kvHeads' | 'dim' | 'tokens'>,
  keyCodec: RecordCodec,
  valueCodec: RecordCodec,
): CodedSequence {
  const { kvHeads, dim, tokens } = shape;
  const draw = normal(seed);
  const keys = new Float32Array(kvHeads * tokens * dim);
  const values = new Float32Array(kvHeads * tokens * dim);
  const [keyWords, valueWords] = [keyCodec.words(dim), valueCodec.words(dim)];
  const pages = Array.from({ length: Math.ceil(tokens / PAGE_TOKENS) }, () =>
    new Uint32Array(kvHeads * PAGE_TOKENS * (keyWords + valueWords)).fill(0x7e00_7e00),
  );
  const vector = new Float32Array(dim);
  for (const [codec, numbers, at] of [
    [keyCodec, keys, 0],
    [valueCodec, values, kvHeads * PAGE_TOKENS * keyWords],
  ] as const)
    for (let i = 0; i < kvHeads * tokens; i++) {
      const words = codec.words(dim);
      const token = i % tokens;
      const slot = Math.floor(i / tokens) * PAGE_TOKENS + (token % PAGE_TOKENS);
      const record = pages[Math.floor(token / PAGE_TOKENS)]?.subarray(at + slot * words, at + (slot + 1) * words);
      if (!record) continue;
      for (let d = 0; d < dim; d++) vector[d] = draw();
      codec.encode(vector, record);
      codec.decode(record, numbers.subarray(i * dim, (i + 1) * dim));
    }
  return { ...shape, keys, values, pages };
}

export interface Room {
  /** Puts pages into binding 0, one after the other, in an order of its own; and says where they are. */
  store(pages: readonly Uint32Array[], firstPosition?: number): KvPage[];
  /** Forgets all pages. */
  clear(): void;
  /** Puts a page into scratch 3, where decoded ones lie. */
  storeDecoded(page: Uint32Array, position: number): KvPage;
  /** Runs all that is planned: the result of all queries. */
  attend(attention: Attention, queries: Float32Array, bias?: Float32Array, productsMax?: number): Promise<Float32Array>;
  /** What a run needs before its steps, and the steps as dispatches. */
  prepare(run: AttentionRun, attention: Attention, queries: Float32Array, bias?: Float32Array): AnyDispatch[];
  close(): void;
}

/** An arena binding and four scratch buffers on a device. */
export function openRoom(device: GPUDevice, kernels: Kernels, arenaBytes: number): Room {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const arena = device.createBuffer({ size: arenaBytes, usage });
  const scratch = Array.from({ length: 4 }, () => device.createBuffer({ size: SCRATCH_BYTES, usage }));
  const bufferOf = ({ at }: Range): GPUBuffer => ('binding' in at ? arena : (scratch[at.scratch] ?? arena));
  const place = (range: Range): BufferRange => ({ buffer: bufferOf(range), offset: range.offset, size: range.size });
  const write = (range: Range, data: Float32Array | Uint32Array): void =>
    device.queue.writeBuffer(bufferOf(range), range.offset, data as GPUAllowSharedBufferSource);
  let used = 0;

  const room: Room = {
    store(pages, firstPosition = 0) {
      const bytes = Math.ceil((pages[0]?.byteLength ?? 0) / 256) * 256;
      const start = used;
      used += bytes * pages.length;
      if (used > arenaBytes) throw new RangeError(`${used} bytes of pages, in ${arenaBytes}`);
      return pages.map((page, i) => {
        // every other page from the end backwards: an order that is not that of the positions
        const slot = i % 2 === 0 ? i / 2 : pages.length - (i + 1) / 2;
        const offset = start + slot * bytes;
        device.queue.writeBuffer(arena, offset, page as GPUAllowSharedBufferSource);
        return { at: { binding: 0 }, offset, position: firstPosition + i * PAGE_TOKENS };
      });
    },
    clear() {
      used = 0;
    },
    storeDecoded(page, position) {
      const range: Range = { at: { scratch: 3 }, offset: SCRATCH_PAGES_AT, size: page.byteLength };
      write(range, page);
      return { at: range.at, offset: range.offset, position };
    },
    prepare(run, attention, queries, bias) {
      write(run.queries, rowsOf(queries, attention, run));
      write(run.table, run.tableWords);
      if (run.bias && bias) write(run.bias, rowsOf(bias, attention, run));
      return run.steps.map((step) => {
        const bindings = Object.entries(step.bindings).map(([name, range]) => [name, place(range)]);
        return { ...step, bindings: Object.fromEntries(bindings) } as AnyDispatch;
      });
    },
    async attend(attention, queries, bias, productsMax) {
      const all = emptyResult(attention);
      for (const run of planAttention(attention, productsMax === undefined ? {} : { productsMax })) {
        await kernels.run(room.prepare(run, attention, queries, bias));
        const floats = resultFloats(attention.heads * run.count, attention.dim);
        const bytes = await readPart(device, place(run.result), floats * 4);
        placeResult(all, attention, run, new Float32Array(bytes.buffer));
      }
      return all;
    },
    close() {
      for (const buffer of [arena, ...scratch]) {
        kernels.forget(buffer);
        buffer.destroy();
      }
    },
  };
  return room;
}

async function readPart(device: GPUDevice, { buffer, offset }: BufferRange, bytes: number) {
  const part = device.createBuffer({ size: bytes, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, part, 0, bytes);
  device.queue.submit([encoder.finish()]);
  const read = await readBuffer(device, part);
  part.destroy();
  return read;
}

/** Root of the squared error's share of the squares, over the outputs; and the largest error of a log-sum-exp. */
export function errorOf(got: ArrayLike<number>, wanted: ArrayLike<number>, dim: number) {
  const rows = wanted.length / (dim + 1);
  let [error, size, exponent] = [0, 0, 0];
  for (let i = 0; i < wanted.length; i++) {
    const difference = (got[i] ?? Number.NaN) - (wanted[i] ?? 0);
    if (i >= rows * dim) exponent = Math.max(exponent, Number.isNaN(difference) ? Infinity : Math.abs(difference));
    else {
      error += difference ** 2;
      size += (wanted[i] ?? 0) ** 2;
    }
  }
  return { outputs: size > 0 ? Math.sqrt(error / size) : Math.sqrt(error), exponents: exponent };
}
