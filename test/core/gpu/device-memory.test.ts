// The buffers of an adapter's process where there is little memory, and the line for its staging, with a device that only
// counts. On real ones: device-link.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { globals } from 'webgpu';
import { BINDING_BYTES } from '../../../core/gpu/arena.ts';
import { type DeviceMemory, openDeviceMemory } from '../../../core/gpu/device-memory.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { SCRATCH_BUFFERS, SCRATCH_BYTES } from '../../../core/gpu/work.ts';

Object.assign(globalThis, globals);
/** What a process needs beside its arena. */
const BESIDE_BYTES = SCRATCH_BUFFERS * SCRATCH_BYTES + 2 * 4 * PIECE_BYTES;

/** A device with so much memory. */
async function open(bytes: number): Promise<{ memory: DeviceMemory | undefined; lines: string[]; scopes: number }> {
  let left = bytes;
  let scopes = 0;
  let isFull = false;
  const device = {
    pushErrorScope: () => scopes++,
    createBuffer({ size }: GPUBufferDescriptor) {
      isFull = size > left;
      if (!isFull) left -= size;
      return { size };
    },
    async popErrorScope() {
      scopes--;
      return isFull ? { message: 'no more' } : null;
    },
  } as unknown as GPUDevice;
  const lines: string[] = [];
  const memory = await openDeviceMemory(device, 3, (line) => lines.push(line));
  return { memory, lines, scopes };
}

test('openDeviceMemory() takes as many bindings as there is room for, and says so', async () => {
  const { memory, lines, scopes } = await open(BESIDE_BYTES + 2 * BINDING_BYTES);
  assert.equal(memory?.bindings.length, 2);
  assert.deepEqual(lines, ['out of memory after 2 of 3 buffers of 128 MiB: no more']);
  assert.equal(scopes, 0);
});

test('openDeviceMemory() gives nothing without scratch, staging or any binding', async () => {
  for (const bytes of [0, 4 * PIECE_BYTES + SCRATCH_BYTES, BESIDE_BYTES + BINDING_BYTES - 1]) {
    const { memory, lines, scopes } = await open(bytes);
    assert.equal(memory, undefined, `${bytes} bytes`);
    assert.match(lines.join(), /out of memory after/);
    assert.equal(scopes, 0);
  }
});

test('staging is taken in line, and who is called off leaves the line', async () => {
  const { memory } = await open(BESIDE_BYTES + BINDING_BYTES);
  assert.ok(memory);
  const { staging } = memory;
  const all = Array.from({ length: 4 }, () => staging.tryTake());
  assert.equal(staging.tryTake(), undefined);
  const controllers = [new AbortController(), new AbortController(), new AbortController()];
  const [first, second, third] = controllers.map(({ signal }) => staging.take(signal));
  const reason = new Error('called off');
  controllers[0]?.abort(reason);
  await assert.rejects(first ?? Promise.resolve(), reason);
  const [a, b] = all;
  assert.ok(a && b);
  staging.give(a);
  assert.equal(await second, a);
  controllers[1]?.abort(reason); // too late: it has one
  staging.give(b);
  assert.equal(await third, b);
  assert.equal(staging.tryTake(), undefined);
  staging.give(a);
  assert.equal(staging.tryTake(), a);
});
