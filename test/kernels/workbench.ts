// Buffers for a test: sources with what they are given, targets that begin in the middle of a buffer full of a pattern, so
// that a kernel that writes before, behind or between what it should is seen.
import type { BufferRange } from '../../core/gpu/kernel-choice.ts';

/** A multiple of every adapter's offset alignment. */
const GUARD = 256;
const PATTERN = 0xa5;

export interface Target extends BufferRange {
  /** Asserts that nothing outside the first `length` bytes has changed, and gives those. */
  read(length: number): Promise<Uint8Array<ArrayBuffer>>;
}

export function createWorkbench(device: GPUDevice) {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const made: GPUBuffer[] = [];
  const fill = (bytes: Uint8Array<ArrayBuffer>): GPUBuffer => {
    const buffer = device.createBuffer({ size: bytes.length, usage });
    device.queue.writeBuffer(buffer, 0, bytes);
    made.push(buffer);
    return buffer;
  };
  const whole = (length: number) => Math.max(16, Math.ceil(length / 16) * 16);

  return {
    source(data: ArrayBufferView): BufferRange {
      const size = whole(data.byteLength);
      const bytes = new Uint8Array(GUARD + size + GUARD).fill(PATTERN);
      bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), GUARD);
      return { buffer: fill(bytes), offset: GUARD, size };
    },

    target(length: number, initial?: Uint8Array): Target {
      const size = whole(length);
      const bytes = new Uint8Array(GUARD + size + GUARD).fill(PATTERN);
      if (initial) bytes.set(initial, GUARD);
      const buffer = fill(bytes);
      return {
        ...{ buffer, offset: GUARD, size },
        async read(kept) {
          const all = await readBuffer(device, buffer);
          const strayed = all.findIndex((byte, i) => byte !== PATTERN && (i < GUARD || i >= GUARD + kept));
          if (strayed >= 0) throw new Error(`byte ${strayed - GUARD} was written, of ${kept}`);
          return all.slice(GUARD, GUARD + kept);
        },
      };
    },

    /** All buffers that were made here. */
    made: (): readonly GPUBuffer[] => made,
    clear(): void {
      for (const buffer of made.splice(0)) buffer.destroy();
    },
  };
}

export type Workbench = ReturnType<typeof createWorkbench>;

export async function readBuffer(device: GPUDevice, buffer: GPUBuffer): Promise<Uint8Array<ArrayBuffer>> {
  const { size } = buffer;
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const bytes = new Uint8Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return bytes;
}
