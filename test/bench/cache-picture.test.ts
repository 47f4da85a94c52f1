// The picture of hit ratios: a panel for each trace, a line for each strategy, nothing outside, names as text.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cachePicture } from '../../bench/lib/cache-picture.ts';

const panel = (title: string) => ({
  ...{ title, subtitle: '9 requests' },
  curves: ['lru', 'adaptive', 'opt', 'somebody'].map((strategy, i) => ({
    strategy,
    points: [
      [0.01, 0.1 * i],
      [0.1, 0.2 * i],
    ] as const,
  })),
});

test('cachePicture() draws each panel and line, with names as text, inside its frame', () => {
  const svg = cachePicture(['a', 'b', 'c', 'd < e'].map(panel), 'caption & more');
  assert.equal(svg.match(/<g /g)?.length, 4);
  assert.ok(svg.includes('d &lt; e') && svg.includes('caption &amp; more'));
  const lines = [...svg.matchAll(/d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"/g)];
  assert.equal(lines.length, 16);
  for (const [, ...places] of lines)
    for (const [at, place] of places.map(Number).entries()) assert.ok(place >= 0 && place <= (at % 2 ? 262 : 370));
  assert.equal(cachePicture([], 'nothing').match(/<g /g), null);
});
