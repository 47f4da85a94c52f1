// How payloads come up to the device. `writeBuffer` has the driver make staging memory for each large one, and some clear it
// first: several times the work of the copy. So what is large goes through buffers that are made at the start and are mapped
// whenever they are free; who is small, or will not wait for one, goes by `writeBuffer`. In the order of the queue, both ways.
import type { Staging } from './device-memory.ts';

/** From here on a submit and a mapping of one's own cost less than `writeBuffer`'s staging. */
export const UPLOAD_BYTES_MIN = 256 << 10;

/** Bytes that go to one place, taken from the source one after the other. */
export interface Target {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  /** Whole words. */
  readonly size: number;
}

/** By `writeBuffer`: the source is free when this returns. */
export function writeAll(device: GPUDevice, targets: readonly Target[], source: Uint8Array, from: number): void {
  let at = from;
  for (const { buffer, offset, size } of targets) {
    device.queue.writeBuffer(buffer, offset, source, at, size);
    at += size;
  }
}

/** Through one of the uploads' buffers, which goes back when the device has read it; the source is free when this returns. */
export function uploadAll(
  device: GPUDevice,
  { through, uploads }: { readonly through: GPUBuffer; readonly uploads: Staging },
  targets: readonly Target[],
  source: Uint8Array,
  from: number,
): void {
  const bytes = targets.reduce((sum, { size }) => sum + size, 0);
  new Uint8Array(through.getMappedRange(0, bytes)).set(source.subarray(from, from + bytes));
  through.unmap();
  const encoder = device.createCommandEncoder();
  let at = 0;
  for (const { buffer, offset, size } of targets) {
    encoder.copyBufferToBuffer(through, at, buffer, offset, size);
    at += size;
  }
  device.queue.submit([encoder.finish()]);
  through.mapAsync(GPUMapMode.WRITE).then(
    () => uploads.give(through),
    () => {}, // the device is lost, and the process ends
  );
}
