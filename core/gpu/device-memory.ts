// The buffers of an adapter's process: the arena's bindings, the scratch, and the staging through which bytes come down and
// large payloads come up (device-uploads.ts).
// All are made at the start, each inside an out-of-memory scope; nothing is allocated for a request. A range is a buffer only
// after `find` has checked it. Staging is taken in line, and who is called off leaves the line.
import { BINDING_BYTES } from './arena.ts';
import { KernelError } from './kernel-choice.ts';
import { PIECE_BYTES } from './pieces.ts';
import { SCRATCH_BUFFERS, SCRATCH_BYTES, scratchIndex, type WorkRange } from './work.ts';

/** Each way. */
const STAGING_BUFFERS = 4;

export interface DeviceMemory {
  readonly bindings: readonly GPUBuffer[];
  /** The buffer of a range; throws where there is no such buffer, or it ends before. */
  find(range: WorkRange): GPUBuffer;
  /** The same, for bytes that are about to be written. */
  findToWrite(range: WorkRange): GPUBuffer;
  /** Dawn clears a buffer before its first use: done ahead, one binding at a time, so that requests wait for one at most. */
  clearAhead(): Promise<void>;
  readonly staging: Staging;
  /** Mapped to be written while they are free. */
  readonly uploads: Staging;
}

export interface Staging {
  /** One at once, or undefined. */
  tryTake(): GPUBuffer | undefined;
  /** One in turn; rejects with the signal's reason. */
  take(signal: AbortSignal): Promise<GPUBuffer>;
  give(buffer: GPUBuffer): void;
}

/** Undefined where the adapter has not even room for one binding; `log` says what there was no room for. */
export async function openDeviceMemory(
  device: GPUDevice,
  bindings: number,
  log: (line: string) => void,
): Promise<DeviceMemory | undefined> {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const make = (count: number, descriptor: GPUBufferDescriptor) => allocate(device, count, descriptor, log);
  const down = { size: PIECE_BYTES, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ };
  const up = { size: PIECE_BYTES, usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.MAP_WRITE, mappedAtCreation: true };
  const staging = await make(STAGING_BUFFERS, down);
  const uploads = await make(STAGING_BUFFERS, up);
  const scratch = await make(SCRATCH_BUFFERS, { size: SCRATCH_BYTES, usage });
  const arena = await make(bindings, { size: BINDING_BYTES, usage });
  const isWhole = [staging, uploads].every(({ length }) => length === STAGING_BUFFERS);
  if (!isWhole || scratch.length < SCRATCH_BUFFERS || arena.length === 0) return undefined;

  /** Bindings that hold something: Dawn has cleared them, and a clear from here would take what was written. */
  const written = new Set<GPUBuffer>();
  const find = ({ at, offset, size }: WorkRange): GPUBuffer => {
    const isScratch = scratchIndex(at) >= 0;
    const buffer = isScratch ? scratch[scratchIndex(at)] : arena[at];
    if (!buffer)
      throw new KernelError(isScratch ? `there is no scratch ${scratchIndex(at)}` : `there is no binding ${at}`);
    if (offset + size > buffer.size)
      throw new KernelError(`bytes ${offset} to ${offset + size} of a buffer that has ${buffer.size}`);
    return buffer;
  };
  return {
    bindings: arena,
    find,
    findToWrite(range) {
      const buffer = find(range);
      written.add(buffer);
      return buffer;
    },
    async clearAhead() {
      for (const buffer of arena) {
        if (written.has(buffer)) continue;
        const encoder = device.createCommandEncoder();
        encoder.clearBuffer(buffer);
        device.queue.submit([encoder.finish()]);
        await device.queue.onSubmittedWorkDone();
      }
    },
    staging: createStaging(staging),
    uploads: createStaging(uploads),
  };
}

async function allocate(
  device: GPUDevice,
  count: number,
  descriptor: GPUBufferDescriptor,
  log: (line: string) => void,
): Promise<GPUBuffer[]> {
  const made: GPUBuffer[] = [];
  while (made.length < count) {
    device.pushErrorScope('out-of-memory');
    const buffer = device.createBuffer(descriptor);
    const error = await device.popErrorScope();
    if (error) {
      const size = `${descriptor.size / 2 ** 20} MiB`;
      log(`out of memory after ${made.length} of ${count} buffers of ${size}: ${error.message.slice(0, 300)}`);
      break;
    }
    made.push(buffer);
  }
  return made;
}

function createStaging(free: GPUBuffer[]): Staging {
  const line = new Set<(buffer: GPUBuffer) => void>();
  return {
    tryTake: () => free.pop(),
    take(signal) {
      return new Promise((resolve, reject) => {
        const leave = () => {
          line.delete(served);
          reject(signal.reason);
        };
        const served = (buffer: GPUBuffer) => {
          signal.removeEventListener('abort', leave);
          resolve(buffer);
        };
        signal.addEventListener('abort', leave, { once: true });
        line.add(served);
      });
    },
    give(buffer) {
      const [next] = line;
      if (!next) return void free.push(buffer);
      line.delete(next);
      next(buffer);
    },
  };
}
