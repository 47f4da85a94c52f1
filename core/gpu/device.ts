// The process that owns ONE adapter: one `gpu` object, one device, its arena of preallocated bindings.
// Started by device-link.ts with its settings in argv, a socket as descriptor 3 and the shared pieces as descriptor 4.
// It does what the frames say and nothing else: which pages are whose is the core's knowledge. Copies of a payload here:
// one from the shared piece into Dawn's staging (write), one out of the mapped staging buffer (read).
// It ends when the socket closes (the core is gone) and when the device is lost (the core starts a fresh process).
import { Socket } from 'node:net';
import { BINDING_BYTES, type Run } from './arena.ts';
import { type DeviceHello, type DeviceSettings, EXIT_LOST, EXIT_NO_ADAPTER } from './device-words.ts';
import { createFrameReader, decodeTransfer, encodeHead, encodeJson, type Head, INLINE, Op } from './frames.ts';
import { mapDescriptor } from './memory.ts';
import { adapterName, isSoftware, openAdapter } from './open-adapter.ts';
import { hurry, paceGpuPolling } from './pace.ts';
import { PIECE_BYTES } from './pieces.ts';

const STAGING_BUFFERS = 4;
/** writeBuffer's staging memory comes back only while the device ticks: never more than this unfinished. */
const UNFLUSHED_MAX = 16 << 20;

const settings = JSON.parse(process.argv[2] ?? '{}') as DeviceSettings;
// Ctrl-C reaches every process of the terminal; the core finishes its work first, and then closes the socket.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
paceGpuPolling();
const adapter = await openAdapter({ loader: settings.loader });
if (!adapter) process.exit(EXIT_NO_ADAPTER);
const device = await adapter.requestDevice({
  requiredLimits: {
    maxBufferSize: adapter.limits.maxBufferSize,
    maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize,
  },
});
device.lost.then((lost) => {
  process.stderr.write(`device lost: ${lost.reason} ${lost.message}\n`);
  process.exit(EXIT_LOST);
});
// Work that was answered as done may not have happened: no page of this device can be trusted any more.
device.onuncapturederror = (event) => {
  process.stderr.write(`uncaptured: ${event.error.message.slice(0, 500)}\n`);
  process.exit(EXIT_LOST);
};

const bindings = await allocateBindings(settings.bindings);
const staging = await Promise.all(Array.from({ length: STAGING_BUFFERS }, createStaging));
const shared = settings.pieces > 0 ? await mapDescriptor(4, settings.pieces * PIECE_BYTES) : new Uint8Array(0);

const socket = new Socket({ fd: 3, readable: true, writable: true });

async function allocateBindings(count: number): Promise<GPUBuffer[]> {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const made: GPUBuffer[] = [];
  for (let i = 0; i < count; i++) {
    device.pushErrorScope('out-of-memory');
    const buffer = device.createBuffer({ size: BINDING_BYTES, usage });
    const error = await device.popErrorScope();
    if (error) {
      process.stderr.write(
        `out of memory after ${i} of ${count} bindings of 128 MiB: ${error.message.slice(0, 300)}\n`,
      );
      break;
    }
    made.push(buffer);
  }
  if (made.length === 0) process.exit(EXIT_NO_ADAPTER);
  return made;
}

/** Bindings that hold something: Dawn has cleared them, and a clear from here would take what was written. */
const written = new Set<GPUBuffer>();

/** Dawn clears a buffer before its first use: done ahead, one binding at a time, so that requests wait for one at most. */
async function clearAhead(): Promise<void> {
  for (const buffer of bindings) {
    if (written.has(buffer)) continue;
    const encoder = device.createCommandEncoder();
    encoder.clearBuffer(buffer);
    device.queue.submit([encoder.finish()]);
    hurry();
    await device.queue.onSubmittedWorkDone();
  }
}

async function createStaging(): Promise<GPUBuffer> {
  device.pushErrorScope('out-of-memory');
  const buffer = device.createBuffer({ size: PIECE_BYTES, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const error = await device.popErrorScope();
  if (error) throw new Error(`no memory for staging: ${error.message}`);
  return buffer;
}

function greeting(): DeviceHello {
  const { info, limits, features } = adapter as GPUAdapter; // checked at the top
  const numbers: Record<string, number> = {};
  for (const name in limits) {
    const value = limits[name as keyof GPUSupportedLimits];
    if (typeof value === 'number') numbers[name] = value;
  }
  return {
    name: adapterName(adapter as GPUAdapter),
    vendor: info.vendor,
    architecture: info.architecture,
    backend: process.platform === 'darwin' ? 'metal' : process.platform === 'win32' ? 'd3d12' : 'vulkan',
    software: isSoftware(adapter as GPUAdapter),
    features: [...features].sort(),
    limits: numbers,
    bindings: bindings.length,
  };
}

function send(op: number, id: number, payload: Uint8Array, sent?: () => void): void {
  socket.cork();
  socket.write(encodeHead(op, id, payload.length));
  if (payload.length > 0) socket.write(payload, sent);
  else sent?.();
  socket.uncork();
}

function serve(head: Head, payload: Uint8Array): void {
  const work = head.op === Op.write ? write(payload) : head.op === Op.read ? read(head.id, payload) : undefined;
  if (!work) throw new Error(`unknown op ${head.op}`);
  work.then(
    () => {
      if (head.op === Op.write) send(Op.done, head.id, new Uint8Array(0));
    },
    (error: unknown) => send(Op.fail, head.id, encodeJson({ message: String(error).slice(0, 500) })),
  );
}

const align4 = (n: number): number => (n + 3) & ~3;

let unflushed = 0;
let flushing: Promise<void> | undefined;

async function write(payload: Uint8Array): Promise<void> {
  const { piece, runs, inline } = decodeTransfer(payload);
  const source = piece === INLINE ? inline : shared.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES);
  let at = 0;
  for (const run of runs) {
    const buffer = binding(run.binding);
    written.add(buffer);
    device.queue.writeBuffer(buffer, run.byteOffset, source, at, align4(run.byteLength));
    at += run.byteLength;
  }
  unflushed += at;
  if (unflushed >= UNFLUSHED_MAX && !flushing) {
    unflushed = 0;
    hurry();
    flushing = device.queue.onSubmittedWorkDone().then(() => {
      flushing = undefined;
    });
  }
  if (flushing && unflushed >= UNFLUSHED_MAX) await flushing;
}

const stagingWaiters: ((buffer: GPUBuffer) => void)[] = [];
const takeStaging = (): Promise<GPUBuffer> | GPUBuffer =>
  staging.pop() ?? new Promise((resolve) => stagingWaiters.push(resolve));
function giveStaging(buffer: GPUBuffer): void {
  const next = stagingWaiters.shift();
  if (next) next(buffer);
  else staging.push(buffer);
}

async function read(id: number, payload: Uint8Array): Promise<void> {
  const { piece, runs } = decodeTransfer(payload);
  const buffer = await takeStaging();
  const size = runs.reduce((sum, run) => sum + run.byteLength, 0);
  try {
    copyRuns(runs, buffer);
    await buffer.mapAsync(GPUMapMode.READ, 0, align4(size));
  } catch (error) {
    giveStaging(buffer);
    throw error;
  }
  const mapped = new Uint8Array(buffer.getMappedRange(0, align4(size))).subarray(0, size);
  const finish = () => {
    buffer.unmap();
    giveStaging(buffer);
  };
  if (piece === INLINE) return send(Op.done, id, mapped, finish);
  shared.set(mapped, piece * PIECE_BYTES);
  finish();
  send(Op.done, id, new Uint8Array(0));
}

function copyRuns(runs: readonly Run[], into: GPUBuffer): void {
  const encoder = device.createCommandEncoder();
  let at = 0;
  for (const run of runs) {
    encoder.copyBufferToBuffer(binding(run.binding), run.byteOffset, into, at, align4(run.byteLength));
    at += run.byteLength;
  }
  device.queue.submit([encoder.finish()]);
  hurry();
}

function binding(index: number): GPUBuffer {
  const buffer = bindings[index];
  if (!buffer) throw new Error(`there is no binding ${index}`);
  return buffer;
}

// Everything above is in place: speak.
const receive = createFrameReader({ place: () => undefined, frame: serve }, PIECE_BYTES + (64 << 10));
socket.on('data', receive);
socket.on('error', () => process.exit());
socket.on('close', () => process.exit());
send(Op.hello, 0, encodeJson(greeting()));
await clearAhead();
