// Comparing payloads: `assert.deepEqual` takes seconds for megabytes, and prints them.
import assert from 'node:assert/strict';

export function assertSameBytes(found: Uint8Array, wanted: Uint8Array, what: string): void {
  if (Buffer.compare(found, wanted) === 0) return;
  const at = found.findIndex((byte, i) => byte !== wanted[i]);
  assert.fail(`${what}: ${found.length} bytes for ${wanted.length}, first differing at ${at}`);
}
