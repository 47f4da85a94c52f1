// The process that owns ONE adapter: one `gpu` object, one device, its arena of preallocated bindings and its kernels.
// Started by device-link.ts with its settings in argv, a socket as descriptor 3 and the shared pieces as descriptor 4.
// It does what the frames say and nothing else: which pages are whose is the core's knowledge. Requests begin in the order
// in which they come, but for one that has to wait (a read or a large write for staging, a run for that or its pipelines):
// whoever builds on a request awaits it. What waits can be called off; what has begun is finished.
// Copies of a payload here, on its way up: one into staging, from the shared piece or from the frame that brought it (where it
// was put together, one more). On its way down: one from mapped staging into the shared piece, or none, and the
// socket sends it from there. It ends when the socket closes (the core is gone) and when the device is lost.
import { Socket } from 'node:net';
import type { Run } from './arena.ts';
import { type DeviceMemory, openDeviceMemory } from './device-memory.ts';
import { type RunContext, runWork } from './device-run.ts';
import { type Target, UPLOAD_BYTES_MIN, uploadAll, writeAll } from './device-uploads.ts';
import { type DeviceHello, type DeviceSettings, EXIT_LOST, EXIT_NO_ADAPTER, type Refusal } from './device-words.ts';
import { createFrameReader, decodeTransfer, encodeHead, encodeJson, type Head, INLINE, Op } from './frames.ts';
import { KernelError, wantedOf } from './kernel-choice.ts';
import { openKernels } from './kernels.ts';
import { mapDescriptor } from './memory.ts';
import { adapterName, capabilitiesOf, isSoftware, openAdapter, requestKernelDevice } from './open-adapter.ts';
import { hurry, paceGpuPolling } from './pace.ts';
import { PIECE_BYTES } from './pieces.ts';
import { SCRATCH_BUFFERS, WORK_BYTES_MAX, wholeWords } from './work.ts';

/** writeBuffer's staging memory comes back only while the device ticks: never more than this unfinished. */
const UNFLUSHED_MAX = 16 << 20;
const NOTHING = new Uint8Array(0);

const settings = JSON.parse(process.argv[2] ?? '{}') as DeviceSettings;
// Ctrl-C reaches every process of the terminal; the core finishes its work first, and then closes the socket.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
paceGpuPolling();
const say = (line: string): void => void process.stderr.write(`${line}\n`);
const adapter = await openAdapter({ ...settings, exactTimestamps: true }).catch((error: unknown) => {
  say(String(error));
  return undefined;
});
if (!adapter) process.exit(EXIT_NO_ADAPTER);
const device = await requestKernelDevice(adapter);
device.lost.then((lost) => {
  say(`device lost: ${lost.reason} ${lost.message}`);
  process.exit(EXIT_LOST);
});
// Work that was answered as done may not have happened: no page of this device can be trusted any more.
device.onuncapturederror = (event) => {
  say(`uncaptured: ${event.error.message.slice(0, 500)}`);
  process.exit(EXIT_LOST);
};
const capabilities = capabilitiesOf(adapter, device);
const made = await openDeviceMemory(device, settings.bindings, say);
if (!made) process.exit(EXIT_NO_ADAPTER);
const memory: DeviceMemory = made;
const { staging, uploads } = memory;
const kernels = openKernels(device, capabilities);
const shared = settings.pieces > 0 ? await mapDescriptor(4, settings.pieces * PIECE_BYTES) : NOTHING;
const socket = new Socket({ fd: 3, readable: true, writable: true });

function greeting(from: GPUAdapter, bindings: number): DeviceHello {
  const { info, limits, features } = from;
  const numbers: Record<string, number> = {};
  for (const name in limits) {
    const value = limits[name as keyof GPUSupportedLimits];
    if (typeof value === 'number') numbers[name] = value;
  }
  return {
    name: adapterName(from),
    vendor: info.vendor,
    architecture: info.architecture,
    backend: process.platform === 'darwin' ? 'metal' : process.platform === 'win32' ? 'd3d12' : 'vulkan',
    software: isSoftware(from),
    features: [...features].sort(),
    limits: numbers,
    bindings,
    scratch: SCRATCH_BUFFERS,
    capabilities: { ...capabilities, has: [...capabilities.has].sort() },
  };
}

/** `sent` is called once the parts are on their way and their memory is free. */
function send(op: number, id: number, parts: readonly Uint8Array[], sent?: () => void): void {
  const filled = parts.filter(({ length }) => length > 0);
  const length = filled.reduce((all, part) => all + part.length, 0);
  socket.cork();
  socket.write(encodeHead(op, id, length), filled.length === 0 ? sent : undefined);
  for (const [i, part] of filled.entries()) socket.write(part, i === filled.length - 1 ? sent : undefined);
  socket.uncork();
}

/** Requests that have come and not begun. */
const waiting = new Map<number, AbortController>();
class CalledOff extends Error {}

async function beforeBegin<T>(id: number, wait: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  waiting.set(id, controller);
  try {
    return await wait(controller.signal);
  } finally {
    waiting.delete(id);
  }
}

function serve({ op, id }: Head, payload: Uint8Array): void {
  if (op === Op.cancel) waiting.get(id)?.abort(new CalledOff());
  else if (op === Op.lose)
    device.destroy(); // and `lost` ends the process
  else ask(op, id, payload);
}

function ask(op: number, id: number, payload: Uint8Array): void {
  answer(op, id, payload).catch((error: unknown) => {
    const kind = error instanceof KernelError ? 'kernel' : error instanceof CalledOff ? 'called-off' : 'failed';
    const message = (error instanceof Error ? error.message : String(error)).slice(0, 1000);
    // A lost device rejects what is under way before it says that it is lost: then this process ends, and says nothing else.
    setTimeout(() => send(Op.fail, id, [encodeJson({ kind, message } satisfies Refusal)]), 0);
  });
}

async function answer(op: number, id: number, payload: Uint8Array): Promise<void> {
  if (op === Op.write) {
    await write(id, payload);
    return send(Op.done, id, []);
  }
  if (op === Op.read) return read(id, payload);
  if (op === Op.run) return run(id, payload);
  if (op !== Op.canary) throw new Error(`unknown op ${op}`);
  await device.queue.onSubmittedWorkDone();
  send(Op.done, id, []);
}

let unflushed = 0;
let flushing: Promise<void> | undefined;

async function write(id: number, payload: Uint8Array): Promise<void> {
  const { piece, runs, inline } = decodeTransfer(payload);
  const source = piece === INLINE ? inline : shared.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES);
  const targets = runs.map((run): Target => {
    const size = wholeWords(run.byteLength);
    return { buffer: bufferOf(run, 'write'), offset: run.byteOffset, size };
  });
  const bytes = targets.reduce((sum, { size }) => sum + size, 0);
  if (bytes < UPLOAD_BYTES_MIN || bytes > PIECE_BYTES) {
    writeAll(device, targets, source, 0);
    return flush(bytes);
  }
  const through = uploads.tryTake() ?? (await beforeBegin(id, uploads.take));
  uploadAll(device, { through, uploads }, targets, source, 0);
  hurry();
}

/** Once so much has gone by `writeBuffer` that its staging has to come back first. */
async function flush(bytes: number): Promise<void> {
  unflushed += bytes;
  if (unflushed >= UNFLUSHED_MAX && !flushing) {
    unflushed = 0;
    hurry();
    flushing = device.queue.onSubmittedWorkDone().then(() => {
      flushing = undefined;
    });
  }
  if (flushing && unflushed >= UNFLUSHED_MAX) await flushing;
}

async function read(id: number, payload: Uint8Array): Promise<void> {
  const { piece, runs } = decodeTransfer(payload);
  const buffers = runs.map((run) => bufferOf(run, 'read'));
  const size = runs.reduce((sum, run) => sum + run.byteLength, 0);
  const into = staging.tryTake() ?? (await beforeBegin(id, staging.take));
  const release = () => {
    if (into.mapState !== 'unmapped') into.unmap();
    staging.give(into);
  };
  try {
    copyRuns(runs, buffers, into);
    await into.mapAsync(GPUMapMode.READ, 0, wholeWords(size));
    const mapped = new Uint8Array(into.getMappedRange(0, wholeWords(size))).subarray(0, size);
    if (piece === INLINE) return send(Op.done, id, [mapped], release);
    shared.set(mapped, piece * PIECE_BYTES);
  } catch (error) {
    release();
    throw error;
  }
  release();
  send(Op.done, id, []);
}

function copyRuns(runs: readonly Run[], buffers: readonly GPUBuffer[], into: GPUBuffer): void {
  const encoder = device.createCommandEncoder();
  let at = 0;
  for (const [i, run] of runs.entries()) {
    const from = buffers[i];
    if (from) encoder.copyBufferToBuffer(from, run.byteOffset, into, at, wholeWords(run.byteLength));
    at += run.byteLength;
  }
  device.queue.submit([encoder.finish()]);
  hurry();
}

function bufferOf({ binding, byteOffset, byteLength }: Run, purpose: 'read' | 'write'): GPUBuffer {
  const range = { at: binding, offset: byteOffset, size: wholeWords(byteLength) };
  return purpose === 'write' ? memory.findToWrite(range) : memory.find(range);
}

async function run(id: number, payload: Uint8Array): Promise<void> {
  const context: RunContext = { device, kernels, memory, shared, beforeBegin: (wait) => beforeBegin(id, wait) };
  const { parts, release } = await runWork(payload, context);
  send(Op.done, id, parts, release);
}

/** One after the other, when nobody waits for it; what cannot be made here is said, and costs nothing else. */
async function warmUp(): Promise<void> {
  for (const text of settings.warm ?? [])
    try {
      await kernels.prepare([wantedOf(text)]);
    } catch (error) {
      say(`not compiled ahead: ${String(error)}`);
    }
}

// Everything above is in place: speak.
const receive = createFrameReader({ place: () => undefined, frame: serve }, WORK_BYTES_MAX);
socket.on('data', receive);
socket.on('error', () => process.exit());
socket.on('close', () => process.exit());
send(Op.hello, 0, [encodeJson(greeting(adapter, memory.bindings.length))]);
await memory.clearAhead();
await warmUp();
