// The adapter's process dies in the middle of requests: a write under way gets a problem document, a read goes on from disk,
// the core lives, the process comes back, and nothing that was durable is lost. Both transports.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  adminKey,
  type Blatam,
  call,
  codeOf,
  type KeyFile,
  sha256,
  signed,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';

interface Adapter {
  readonly pid: number;
  readonly state: string;
  readonly restarts: number;
}

for (const transport of ['ring', 'socket'])
  describe(`with the ${transport} transport`, () => {
    let blatam: Blatam;
    let key: KeyFile;
    const at = (path: string) => `${blatam.edge}/v1/tensors/${path}`;

    before(async () => {
      blatam = await startBlatam({ environment: { GPU_TRANSPORT: transport } });
      key = adminKey(blatam.dataDir);
    });
    after(() => blatam.stop());

    const adapter = async (): Promise<Adapter> => {
      const answer = await call(key, 'GET', `${blatam.edge}/v1/adapters`);
      const { adapters } = (await answer.json()) as { adapters: [Adapter] };
      return adapters[0];
    };
    const recovered = async (restarts: number): Promise<void> => {
      for (const deadline = performance.now() + 20_000; performance.now() < deadline; ) {
        const { state, restarts: now } = await adapter();
        if (state === 'ready' && now >= restarts) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.fail('the adapter did not come back');
    };

    /** The reader of a cold tensor brings it back to the adapter, shortly after its last byte. */
    const becomesHot = async (path: string, file: Uint8Array): Promise<void> => {
      for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
        const got = await call(key, 'GET', at(path));
        assert.deepEqual(sha256(new Uint8Array(await got.arrayBuffer())), sha256(file));
        if (got.headers.get('x-cache') === 'hot') return;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.fail(`${path} stays cold`);
    };

    test('a PUT under way gets 503 adapter_lost, then the same PUT works', async () => {
      const file = tensorFile(24 << 20);
      const { pid, restarts } = await adapter();
      const url = at('crash/put');
      const headers = await signed(key, 'PUT', url, { body: file });
      // The body stops halfway, the adapter's process dies, the body goes on.
      const chunks = async function* () {
        yield file.subarray(0, 12 << 20);
        await new Promise((resolve) => setTimeout(resolve, 300));
        process.kill(pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 300));
        yield file.subarray(12 << 20);
      };
      const init = { method: 'PUT', headers, body: ReadableStream.from(chunks()), duplex: 'half' };
      const answer = await fetch(url, init as RequestInit);
      assert.equal(answer.status, 503);
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
      assert.match(await codeOf(answer), /^adapter_(lost|unavailable)$/);
      await recovered(restarts + 1);
      assert.equal((await call(key, 'GET', url)).status, 404);
      assert.equal((await call(key, 'PUT', url, { body: file })).status, 201);
      const back = new Uint8Array(await (await call(key, 'GET', url)).arrayBuffer());
      assert.deepEqual(sha256(back), sha256(file));
    });

    test('a GET under way goes on from disk, bit for bit', async () => {
      const file = tensorFile(48 << 20);
      assert.equal((await call(key, 'PUT', at('crash/get'), { body: file })).status, 201);
      const { pid, restarts } = await adapter();
      const answer = await call(key, 'GET', at('crash/get'));
      assert.equal(answer.headers.get('x-cache'), 'hot');
      const reader = answer.body?.getReader();
      const parts: Uint8Array[] = [];
      for (let killed = false; ; ) {
        const part = await reader?.read();
        if (!part || part.done) break;
        parts.push(part.value);
        if (!killed) process.kill(pid, 'SIGKILL');
        killed = true;
      }
      assert.deepEqual(sha256(Buffer.concat(parts)), sha256(file));
      await recovered(restarts + 1);
    });

    test('what was durable is served from disk and comes back to the adapter, what was not is gone', async () => {
      const [kept, fleeting] = [tensorFile(5 << 20), tensorFile(5 << 20)];
      assert.equal((await call(key, 'PUT', at('crash/kept'), { body: kept })).status, 201);
      assert.equal((await call(key, 'PUT', at('crash/fleeting?durability=none'), { body: fleeting })).status, 201);
      const { pid, restarts } = await adapter();
      process.kill(pid, 'SIGKILL');
      await recovered(restarts + 1);
      const cold = await call(key, 'GET', at('crash/kept'));
      assert.equal(cold.headers.get('x-cache'), 'cold');
      assert.deepEqual(sha256(new Uint8Array(await cold.arrayBuffer())), sha256(kept));
      await becomesHot('crash/kept', kept);
      assert.equal((await call(key, 'GET', at('crash/fleeting'))).status, 404);
    });

    test('while the process is away, readiness says so and reads go on', async () => {
      const { pid, restarts } = await adapter();
      process.kill(pid, 'SIGKILL');
      const seen = new Set<number>();
      for (let i = 0; i < 2000 && !seen.has(503); i++) {
        const ready = await fetch(`${blatam.core}/readyz`);
        await ready.arrayBuffer();
        seen.add(ready.status);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assert.ok(seen.has(503));
      assert.equal((await call(key, 'GET', at('crash/kept'))).status, 200);
      await recovered(restarts + 1);
      assert.equal((await fetch(`${blatam.core}/readyz`)).status, 200);
    });
  });
