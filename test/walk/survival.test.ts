// SIGKILL of the core at random moments: every tensor whose PUT `through` was answered is served by the next start, and
// what was deleted stays deleted. KILL_ROUNDS sets how often (short by default), SEED which moments.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { adminKey, type Blatam, call, startBlatam, temporaryFolder } from '../support/blatam.ts';
import { seeded } from '../support/seeded.ts';

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 6);
const WRITERS = 4;
const KEYS = 12;
const SIZES = [0, 100, 70_000, 1 << 20, 6 << 20] as const;

/** What a key may hold: what was answered last, or what was under way when the core died. */
type Expected = Map<string, Set<Uint8Array | undefined>>;

test('every answered PUT survives SIGKILL of the core at any moment', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed} KILL_ROUNDS=${ROUNDS}`);
  const dataDir = temporaryFolder();
  const expected: Expected = new Map();
  try {
    let answered = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const blatam = await startBlatam({ dataDir, environment: { GPU_MEMORY_MIB: '128' } });
      await verify(blatam, expected);
      let alive = true;
      const writers = Array.from({ length: WRITERS }, (_, writer) =>
        write(blatam, writer, expected, random, () => alive),
      );
      await new Promise((resolve) => setTimeout(resolve, 50 + random.below(1500)));
      alive = false;
      await blatam.kill('SIGKILL');
      for (const count of await Promise.all(writers)) answered += count;
    }
    const last = await startBlatam({ dataDir });
    await verify(last, expected);
    assert.doesNotMatch(last.output(), /lost:/);
    t.diagnostic(`${answered} writes were answered in ${ROUNDS} lives`);
    assert.ok(answered > ROUNDS, 'the writers got something done');
    await last.kill('SIGTERM');
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});

/** Each writer has keys of its own, so that what it wrote last is what must be there. */
async function write(
  blatam: Blatam,
  writer: number,
  expected: Expected,
  random: ReturnType<typeof seeded>,
  alive: () => boolean,
): Promise<number> {
  const key = adminKey(blatam.dataDir);
  let answered = 0;
  while (alive()) {
    const name = `survive/${writer}/${random.below(KEYS)}`;
    const url = `${blatam.edge}/v1/tensors/${name}`;
    const held = expected.get(name) ?? new Set([undefined]);
    const body = random.next() < 0.15 ? undefined : file(random);
    // Until it is answered, both the old and the new are right.
    expected.set(name, new Set([...held, body]));
    try {
      const answer = body ? await call(key, 'PUT', url, { body }) : await call(key, 'DELETE', url);
      await answer.arrayBuffer();
      assert.ok([200, 201, 204, 404].includes(answer.status), `${answer.status}`);
      expected.set(name, new Set([body]));
      answered++;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return answered; // the core is gone
    }
  }
  return answered;
}

function file(random: ReturnType<typeof seeded>): Uint8Array {
  const data = random.bytes(random.pick(SIZES));
  return joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [data.length], data }]));
}

async function verify(blatam: Blatam, expected: Expected): Promise<void> {
  const key = adminKey(blatam.dataDir);
  for (const [name, allowed] of expected) {
    const answer = await call(key, 'GET', `${blatam.edge}/v1/tensors/${name}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const found = answer.status === 404 ? undefined : bytes;
    const matching = [...allowed].find((one) => (one && found ? Buffer.compare(one, found) === 0 : one === found));
    assert.ok(matching !== undefined || (found === undefined && allowed.has(undefined)), `${name}: ${answer.status}`);
    expected.set(name, new Set([matching]));
  }
}
