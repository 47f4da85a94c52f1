// The picture of the codec benchmark: names lie over nothing and inside their frame, and what is drawn is what was measured.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Labelled, overlaps, placeLabels } from '../../bench/lib/label-places.ts';
import { type Mark, type Panel, picture } from '../../bench/lib/picture.ts';
import { seeded } from '../support/seeded.ts';

const FRAME = { x: 10, y: 20, width: 500, height: 360 };

describe('placeLabels()', () => {
  test('puts no name over a mark, over another name, or outside', () => {
    const random = seeded();
    for (let round = 0; round < 40; round++) {
      const crowd = random.next() * 200 + 60;
      const labelled = Array.from(
        { length: 16 },
        (): Labelled => ({
          ...{ x: 200 + random.next() * crowd, y: 150 + random.next() * crowd },
          ...{ width: 30 + random.below(70), height: 13 },
        }),
      );
      const boxes = placeLabels(labelled, FRAME);
      for (const [i, box] of boxes.entries()) {
        const about = `seed ${random.seed}, round ${round}, name ${i}`;
        assert.deepEqual([box.width, box.height], [labelled[i]?.width, labelled[i]?.height]);
        assert.ok(box.x >= FRAME.x && box.x + box.width <= FRAME.x + FRAME.width, about);
        assert.ok(box.y >= FRAME.y && box.y + box.height <= FRAME.y + FRAME.height, about);
        for (const other of boxes.slice(i + 1)) assert.ok(!overlaps(box, other), about);
        for (const { x, y } of labelled) assert.ok(!overlaps(box, { x, y, width: 0, height: 0 }), about);
      }
    }
  });

  test('keeps off lines where there is room', () => {
    const line = Array.from({ length: 100 }, (_, i) => ({ x: 200 + i * 3, y: 200 }));
    const [box] = placeLabels([{ x: 200, y: 200, width: 60, height: 13 }], FRAME, line);
    assert.ok(box && !line.some(({ x, y }) => overlaps(box, { x, y, width: 0, height: 0 })));
  });

  test('says so when there is no room', () => {
    assert.throws(() => placeLabels([{ x: 30, y: 30, width: 600, height: 13 }], FRAME), /no room for a name/);
  });
});

describe('picture()', () => {
  const mark = (name: string, bits: number, error: number): Mark => ({
    name,
    bits,
    error,
    isOurs: bits > 3,
    series: 'one',
  });
  const panel: Panel = {
    ...{ title: 'R & D', yName: 'error', hasLimit: true },
    marks: [mark('a<b', 2.25, 0.06), mark('c', 4.25, 0.004), mark('far', 8, 1e-5)],
  };
  const svg = picture([panel, panel, panel], [2, 5], 'less is "better"');

  test('has a circle and an escaped name for each mark within its bits', () => {
    assert.equal(svg.match(/<circle [^>]*\/><text [^>]*textLength/g)?.length, 3 * 2);
    assert.ok(svg.includes('>a&lt;b</text>') && svg.includes('R &amp; D') && !svg.includes('>far<'));
  });

  test('is lower where the error is less, and further right where bits are more', () => {
    const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
    const [[x1 = 0, y1 = 0] = [], [x2 = 0, y2 = 0] = []] = circles;
    assert.ok(x2 > x1 && y2 > y1);
  });

  test('opens and closes every element, and takes no colour from a page', () => {
    const open = svg.match(/<(?!\/)[^>]*[^/]>/g)?.length;
    assert.equal(open, svg.match(/<\/[^>]*>/g)?.length);
    assert.ok(!/fill="(?:black|white|currentColor)"/.test(svg));
  });

  test('shows what an empty panel lacks', () => {
    assert.ok(picture([{ ...panel, marks: [] }], [2, 5], '').includes('nothing to show'));
  });
});
