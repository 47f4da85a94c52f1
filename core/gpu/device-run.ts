// Does a run (work.ts) on the device: uploads, one pass, downloads, one submit, with no await in between, so that nothing of
// others comes between them. Everything is checked before the first byte moves; what is wrong is a KernelError, and what only
// WebGPU finds is caught in an error scope and becomes one too: a bad run never costs the device.
// A run begins as it comes, unless its pipelines or the staging are not there yet; later requests then pass it. Pipelines are
// waited for with an end.
import type { DeviceMemory } from './device-memory.ts';
import { UPLOAD_BYTES_MIN, uploadAll, writeAll } from './device-uploads.ts';
import { INLINE } from './frames.ts';
import { type AnyDispatch, entry, KernelError } from './kernel-choice.ts';
import type { Kernels, Plan } from './kernels.ts';
import { hurry } from './pace.ts';
import { PIECE_BYTES } from './pieces.ts';
import { decodeWork, type RemoteMove, type RemoteWork, type WorkDispatch, type WorkRange, wholeWords } from './work.ts';

const COMPILE_MS_MAX = 300_000;

export interface RunContext {
  readonly device: GPUDevice;
  readonly kernels: Kernels;
  readonly memory: DeviceMemory;
  /** All shared pieces, in order. */
  readonly shared: Uint8Array;
  /** Waits for what a request needs before it begins; rejects if the core calls it off. */
  beforeBegin<T>(wait: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/** What goes back: the milliseconds of the pass (f64, NaN: not told), then the bytes that no shared piece took. */
export interface RunAnswer {
  readonly parts: readonly Uint8Array[];
  /** The parts are sent, and their memory is free again. */
  release(): void;
}

export async function runWork(payload: Uint8Array, context: RunContext): Promise<RunAnswer> {
  const { kernels, memory, shared } = context;
  const work = decodeWork(payload);
  for (const move of [...work.uploads, ...work.downloads]) checkPiece(move, shared);
  for (const { range } of work.uploads) memory.findToWrite(padded(range));
  for (const { range } of work.downloads) memory.find(padded(range));
  const planned = kernels.plan(work.dispatches.map((dispatch) => resolveRanges(dispatch, memory)));
  const plan = 'then' in planned ? await context.beforeBegin((signal) => compiled(planned, signal)) : planned;
  if (work.downloads.length === 0) return { parts: [await execute(work, plan, undefined, context)], release() {} };

  const staging = memory.staging.tryTake() ?? (await context.beforeBegin(memory.staging.take));
  const release = () => {
    if (staging.mapState !== 'unmapped') staging.unmap();
    memory.staging.give(staging);
  };
  try {
    const clock = await execute(work, plan, staging, context);
    const parts = takeDown(work.downloads, staging, shared);
    if (parts.length > 0) return { parts: [clock, ...parts], release };
    release();
    return { parts: [clock], release() {} };
  } catch (error) {
    release();
    throw error;
  }
}

const padded = ({ at, offset, size }: WorkRange): WorkRange => ({ at, offset, size: wholeWords(size) });

function checkPiece({ piece, from, range }: RemoteMove, shared: Uint8Array): void {
  if (piece === INLINE) return;
  if (from + wholeWords(range.size) > PIECE_BYTES || (piece + 1) * PIECE_BYTES > shared.length)
    throw new KernelError(`bytes ${from} to ${from + range.size} of piece ${piece} are not shared`);
}

function resolveRanges(dispatch: WorkDispatch, memory: DeviceMemory): AnyDispatch {
  const declared = entry(dispatch.kernel).bindings;
  const resolved = Object.entries<WorkRange>(dispatch.bindings).map(([name, range]) => {
    const buffer = declared[name]?.access === 'write' ? memory.findToWrite(range) : memory.find(range);
    return [name, { buffer, offset: range.offset, size: range.size }];
  });
  return { ...dispatch, bindings: Object.fromEntries(resolved) } as AnyDispatch;
}

/** Resolves once the GPU is done, with how long it took. */
async function execute(
  work: RemoteWork,
  plan: Plan,
  staging: GPUBuffer | undefined,
  context: RunContext,
): Promise<Uint8Array> {
  const { device, kernels, memory, shared } = context;
  const { value: stopwatch, fault } = inScope(device, () => {
    for (const move of work.uploads) bringUp(move, move.piece === INLINE ? work.inline : shared, context);
    const after = (encoder: GPUCommandEncoder) => staging && copyDown(encoder, work.downloads, staging, memory);
    return kernels.submit(plan, { timed: work.timed, after });
  });
  hurry();
  const end = staging ? staging.mapAsync(GPUMapMode.READ) : device.queue.onSubmittedWorkDone();
  const [error, ms = Number.NaN] = await Promise.all([fault, stopwatch?.read(), end]);
  if (error) throw new KernelError(`WebGPU refuses the run: ${error.message.slice(0, 500)}`);
  return new Uint8Array(Float64Array.of(ms).buffer);
}

function bringUp({ piece, from, range }: RemoteMove, source: Uint8Array, { device, memory }: RunContext): void {
  const at = piece === INLINE ? from : piece * PIECE_BYTES + from;
  const target = { buffer: memory.find(range), offset: range.offset, size: wholeWords(range.size) };
  const { uploads } = memory;
  const isLarge = target.size >= UPLOAD_BYTES_MIN && target.size <= PIECE_BYTES;
  const through = isLarge ? uploads.tryTake() : undefined; // nothing may be awaited here
  if (through) uploadAll(device, { through, uploads }, [target], source, at);
  else writeAll(device, [target], source, at);
}

/** What `encode` gives, and what WebGPU has against it. */
function inScope<T>(
  device: GPUDevice,
  encode: () => T,
): { readonly value: T; readonly fault: Promise<GPUError | null> } {
  device.pushErrorScope('validation');
  try {
    return { value: encode(), fault: device.popErrorScope() };
  } catch (error) {
    void device.popErrorScope();
    throw error;
  }
}

function copyDown(
  encoder: GPUCommandEncoder,
  moves: readonly RemoteMove[],
  staging: GPUBuffer,
  memory: DeviceMemory,
): void {
  let at = 0;
  for (const { range } of moves) {
    const size = wholeWords(range.size);
    encoder.copyBufferToBuffer(memory.find(range), range.offset, staging, at, size);
    at += size;
  }
}

/** From staging into shared pieces; gives what has no place there. */
function takeDown(moves: readonly RemoteMove[], staging: GPUBuffer, shared: Uint8Array): Uint8Array[] {
  const mapped = new Uint8Array(staging.getMappedRange());
  let at = 0;
  return moves.flatMap(({ piece, from, range }) => {
    const bytes = mapped.subarray(at, at + range.size);
    at += wholeWords(range.size);
    if (piece === INLINE) return [bytes];
    shared.set(bytes, piece * PIECE_BYTES + from);
    return [];
  });
}

/** The plan, unless the core calls it off; a driver may also compile for ever. */
function compiled(planned: Promise<Plan>, signal: AbortSignal): Promise<Plan> {
  return new Promise((resolve, reject) => {
    const tooLong = new KernelError(`its kernels were not compiled in ${COMPILE_MS_MAX / 1000} s`);
    const timer = setTimeout(() => reject(tooLong), COMPILE_MS_MAX);
    const end = () => clearTimeout(timer);
    const leave = () => {
      end();
      reject(signal.reason);
    };
    signal.addEventListener('abort', leave, { once: true });
    planned.finally(end).then(resolve, reject);
  });
}
