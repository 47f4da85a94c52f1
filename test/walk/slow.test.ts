// Two tenants on one server, of which one sends and reads as slowly as it may: the memory that bodies travel through is left to
// the other in part, which is answered meanwhile.
import assert from 'node:assert/strict';
import { type ClientRequest, request } from 'node:http';
import { test } from 'node:test';
import { createClient } from '../../edge/client.ts';
import { sha256, signed, startBlatam, temporaryFolder, tensorFile } from '../support/blatam.ts';
import { seeded } from '../support/seeded.ts';
import { keysOf } from '../support/tenants.ts';

const MiB = 1 << 20;
const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };

/** Of the pieces of memory that bodies travel through, how many nobody has, and how many are waited for. */
async function pieces(core: string): Promise<{ free: number; waiting: number }> {
  const text = await (await fetch(`${core}/metrics`)).text();
  const read = (name: string) => Number(new RegExp(`^blatam_pieces_${name} (\\d+)`, 'm').exec(text)?.[1]);
  return { free: read('free'), waiting: read('waiting') };
}

test('one whose bodies and readers are slow leaves pieces to others, who are answered meanwhile', async (t) => {
  const random = seeded();
  const dataDir = temporaryFolder();
  const [slow, other] = await keysOf(dataDir, 'slow', 'other');
  assert.ok(slow && other);
  const blatam = await startBlatam({ dataDir });
  t.after(() => blatam.stop());
  const others = createClient({ url: blatam.edge, ...other });
  const large = tensorFile(24 * MiB);
  const digest = sha256(large);
  await createClient({ url: blatam.edge, ...slow }).put('large', large);
  const opened: ClientRequest[] = [];
  t.after(() => {
    for (const sent of opened) sent.destroy();
  });
  const open = async (method: string, key: string, body?: Uint8Array): Promise<void> => {
    const url = `${blatam.edge}/v1/tensors/${key}`;
    const fields = await signed(slow, method, url, body ? { digest } : {});
    const headers = {
      ...fields,
      ...(body ? { 'content-type': 'application/vnd.safetensors', 'content-length': body.length } : {}),
    };
    const sent = request(url, { method, headers, agent: false });
    sent.on('error', () => {});
    sent.on('response', (answer) => answer.pause()); // and nobody reads it
    if (body) sent.write(body.subarray(0, 200_000));
    else sent.end();
    opened.push(sent);
  };
  await Promise.all(Array.from({ length: 10 }, (_, i) => open('PUT', `slow/${i}`, large)));
  await Promise.all(Array.from({ length: 40 }, () => open('GET', 'large'))); // for minutes, before they are cut off
  for (let tries = 0; (await pieces(blatam.core)).waiting === 0; tries++)
    assert.ok(tries < 3000, 'it has all that it can have');
  assert.ok((await pieces(blatam.core)).free > 0);
  const file = tensorFile(9 * MiB);
  await others.put('k', file);
  assert.deepEqual(await others.get('k').then((found) => found?.bytes()), file);
  const tokens = Int32Array.from({ length: 64 * 20 }, () => random.below(30_000));
  const [k, v] = [0, 1].map(() => Float32Array.from({ length: tokens.length * SHAPE.dim }, () => random.next()));
  assert.ok(k && v);
  await others.kv.store({ model: 'm', shape: SHAPE, dtype: 'F32', tokens, k, v });
  assert.equal((await others.kv.load({ model: 'm', tokens }))?.matchedTokens, tokens.length);
});
