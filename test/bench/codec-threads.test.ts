// The codec benchmark's figures come the same from threads as from here, in order, and a failure is told.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { figuresOf, meanFigures, subjectsOf } from '../../bench/lib/codec-figures.ts';
import { type CodecTask, shareOut } from '../../bench/lib/codec-threads.ts';
import { OURS } from '../../bench/lib/our-codecs.ts';
import { losslessRatio } from '../../bench/lib/our-entropy-codecs.ts';
import { RIVALS } from '../../bench/lib/rivals.ts';

const TOKENS = 128;

describe('figures of the codec benchmark', () => {
  test('shareOut() gives what one thread gives, in the order of the tasks', async () => {
    const tasks = ['values', 'gauss'].map((subject) => ({
      kind: 'distortion',
      subject,
      tokens: TOKENS,
    })) as CodecTask[];
    const done: CodecTask[] = [];
    const answers = await shareOut(tasks, (task) => done.push(task));
    assert.equal(done.length, 2);
    const subjects = subjectsOf(TOKENS);
    for (const [i, name] of ['values', 'gauss'].entries()) {
      const subject = subjects.find((each) => each.name === name);
      assert.ok(subject);
      assert.deepEqual(answers[i], figuresOf(subject, [...OURS, ...RIVALS]));
    }
  });

  test('shareOut() ends with the first task that fails', async () => {
    const task = { kind: 'distortion', subject: 'none', tokens: TOKENS } as unknown as CodecTask;
    await assert.rejects(
      shareOut([task], () => {}),
      /no data of the name none/,
    );
  });

  test('of K there is a row with and one without the head mean, and one of them is the usual one', () => {
    const keys = subjectsOf(TOKENS).find(({ name }) => name === 'keys');
    assert.ok(keys);
    const figures = figuresOf(
      keys,
      OURS.filter(({ name }) => ['f16', 'tq4'].includes(name)),
    );
    assert.deepEqual(
      figures.map(({ name, isUsual }) => [name, isUsual]),
      [
        ['f16', true],
        ['tq4', false],
        ['tq4, head mean', true],
      ],
    );
    const [, plain, usual] = figures;
    assert.ok(usual && plain && usual.error < plain.error / 2);
  });

  test('meanFigures() is the mean of each place over repetitions', () => {
    const figure = (error: number) => ({
      name: 'a',
      isOurs: true,
      bitsK: error,
      bitsV: 4,
      errors: [{ error, angle: 1 }],
    });
    assert.deepEqual(meanFigures([[figure(1)], [figure(3)]]), [figure(2)]);
  });

  test('lossless is what it claims, on every kind of data', () => {
    for (const { name, vectors } of subjectsOf(512)) {
      const [f16, bf16] = [losslessRatio(vectors, 'f16'), losslessRatio(vectors, 'bf16')];
      assert.ok(f16 > 0.8 && f16 < 0.95 && bf16 > 0.6 && bf16 < 0.8, `${name}: ${f16}, ${bf16}`);
    }
  });
});
