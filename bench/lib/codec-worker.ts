// A thread of the codec benchmark: is given a task, answers with its figures, and is given the next.
import { parentPort } from 'node:worker_threads';
import { attentionOf, figuresOf, subjectsOf } from './codec-figures.ts';
import type { CodecAnswer, CodecTask } from './codec-threads.ts';
import { OUR_PAIRS, OURS } from './our-codecs.ts';
import { RIVALS } from './rivals.ts';

function answer(task: CodecTask): CodecAnswer {
  if (task.kind === 'attention')
    return attentionOf(task.scene, task.repetition, task.tokens, [...OUR_PAIRS, ...RIVALS]);
  const subject = subjectsOf(task.tokens).find(({ name }) => name === task.subject);
  if (!subject) throw new RangeError(`there are no data of the name ${task.subject}`);
  return figuresOf(subject, [...OURS, ...RIVALS]);
}

parentPort?.on('message', (task: CodecTask) => parentPort?.postMessage(answer(task)));
