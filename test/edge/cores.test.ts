// The choice of a core, with a clock and dice of the test's own.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type CoresOptions, createCores } from '../../edge/cores.ts';
import { seeded } from '../support/seeded.ts';

const random = seeded();
const URLS = ['http://a', 'http://b', 'http://c'];

function open(more: Partial<CoresOptions> = {}) {
  let time = 1_000_000;
  const cores = createCores({ urls: URLS, away: 'refuse', now: () => time, random: random.next, ...more });
  const pass = (ms: number) => {
    time += ms;
  };
  const fail = (url: string, times = 3) => {
    for (let i = 0; i < times; i++) cores.told(url, 'failed');
  };
  return { cores, pass, fail, ownerOf: (tenant: string) => cores.take(tenant)?.url };
}

describe(`cores, seed ${random.seed}`, () => {
  test('a tenant is always on the same core, however they are listed, and tenants spread', () => {
    const there = open();
    const back = open({ urls: URLS.toReversed() });
    const counts = new Map<string | undefined, number>();
    for (let i = 0; i < 3000; i++) {
      const owner = there.ownerOf(`tenant ${i}`);
      assert.equal(back.ownerOf(`tenant ${i}`), owner);
      counts.set(owner, (counts.get(owner) ?? 0) + 1);
    }
    for (const url of URLS) assert.ok((counts.get(url) ?? 0) > 800, `${url}: ${counts.get(url)} of 3000`);
  });

  test('a core that joins takes only tenants of its own', () => {
    const [two, three] = [open({ urls: URLS.slice(0, 2) }), open()];
    for (let i = 0; i < 1000; i++) {
      const owner = three.ownerOf(`tenant ${i}`);
      if (owner !== URLS[2]) assert.equal(owner, two.ownerOf(`tenant ${i}`));
    }
  });

  test('away=refuse: a tenant whose core is away is refused; away=next: it is on the next in its order, until that is back', () => {
    const [refuse, next] = [open(), open({ away: 'next' })];
    const owner = refuse.ownerOf('x') ?? '';
    refuse.fail(owner);
    assert.equal(refuse.ownerOf('x'), undefined);
    next.fail(owner);
    const second = next.ownerOf('x');
    assert.ok(second && second !== owner);
    next.cores.told(owner, 'answered');
    assert.equal(next.ownerOf('x'), owner);
    assert.equal(next.cores.take('x', [owner])?.url, second, 'one that failed this request is not tried again');
  });

  test('three failures in a row leave a core alone; then one request tries it, and the pause doubles up to 8 s', () => {
    const { cores, pass, fail } = open({ urls: URLS.slice(0, 1) });
    fail('http://a', 2);
    cores.told('http://a', 'answered');
    fail('http://a', 2);
    assert.ok(cores.take('x'), 'not in a row');
    fail('http://a', 1);
    for (const pause of [1000, 2000, 4000, 8000, 8000]) {
      pass(pause - 1);
      assert.equal(cores.take('x'), undefined);
      pass(1);
      const probe = cores.take('x');
      assert.equal(cores.take('x'), undefined, 'one alone');
      probe?.done('failed');
    }
    pass(8000);
    cores.take('x')?.done('left');
    cores.take('x')?.done('answered');
    assert.ok(cores.take('x') && cores.take('x'));
  });

  test('one that is not ready, or away, is given nothing that others can do; of all that are away, none', () => {
    const { cores, fail } = open();
    cores.told('http://a', 'unready');
    fail('http://b');
    for (let i = 0; i < 100; i++) assert.equal(cores.take(undefined)?.url, 'http://c');
    fail('http://c');
    assert.equal(cores.take(undefined)?.url, 'http://a', 'better than nothing');
    fail('http://a');
    assert.equal(cores.take(undefined), undefined);
  });

  test('of two random cores the less busy one: the busiest of three is never taken, shares are even', () => {
    const { cores } = open();
    const busy = new Map(URLS.map((url) => [url, 0]));
    for (let i = 0; i < 3000; i++) {
      const most = Math.max(...busy.values());
      const { url = '' } = cores.take(undefined) ?? {};
      const isAlone = [...busy.values()].filter((count) => count === most).length === 1;
      if (isAlone) assert.notEqual(busy.get(url), most);
      busy.set(url, (busy.get(url) ?? 0) + 1);
    }
    for (const [url, count] of busy) assert.ok(Math.abs(count - 1000) <= 2, `${url}: ${count}`);
  });

  test('a core that is back is given little, then its share after 10 s', () => {
    const { cores, pass, fail } = open({ urls: URLS.slice(0, 2) });
    const shareOf = (url: string) => {
      const taken = Array.from({ length: 1100 }, () => cores.take(undefined));
      for (const each of taken) each?.done('answered');
      return taken.filter((each) => each?.url === url).length / taken.length;
    };
    fail('http://a');
    cores.told('http://a', 'answered');
    assert.ok(shareOf('http://a') < 0.15);
    pass(5000);
    const half = shareOf('http://a');
    assert.ok(half > 0.25 && half < 0.4, `${half}`);
    pass(5000);
    assert.ok(Math.abs(shareOf('http://a') - 0.5) < 0.02);
  });

  test('at most a fifth of requests are sent again, and ten that were saved', () => {
    const { cores } = open();
    let again = 0;
    for (let i = 0; i < 1000; i++) {
      cores.take('x')?.done('left');
      if (cores.mayRetry()) again += 1;
    }
    assert.ok(again >= 200 && again <= 211, `${again}`);
  });

  test('health is asked every 2 s, of cores that were not well every second, by one who comes', () => {
    const { cores, pass } = open();
    assert.deepEqual(cores.due(), URLS);
    assert.deepEqual(cores.due(), []);
    cores.told('http://b', 'unready');
    pass(1000);
    assert.deepEqual(cores.due(), ['http://b']);
    pass(1000);
    assert.deepEqual(cores.due(), URLS);
  });
});
