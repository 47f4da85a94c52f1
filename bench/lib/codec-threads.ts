// The work of the codec benchmark on all cores: one task after another to whoever is free. Tasks are seeded, so that it does
// not matter who does which; answers come in the order of the tasks. The first that fails ends all.
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { AttentionFigure, Figure, SceneName, Subject } from './codec-figures.ts';

export type CodecTask =
  | { readonly kind: 'distortion'; readonly subject: Subject['name']; readonly tokens: number }
  | { readonly kind: 'attention'; readonly scene: SceneName; readonly repetition: number; readonly tokens: number };

export type CodecAnswer<T extends CodecTask = CodecTask> = T extends { kind: 'distortion' }
  ? readonly Figure[]
  : readonly AttentionFigure[];

/** `done` is told of each task at its end. */
export async function shareOut<T extends CodecTask>(
  tasks: readonly T[],
  done: (task: T) => void,
): Promise<CodecAnswer<T>[]> {
  const answers: CodecAnswer<T>[] = [];
  const left = [...tasks.entries()];
  const workers = Array.from({ length: Math.min(availableParallelism(), tasks.length) }, openWorker);
  const work = async ({ ask }: OpenWorker) => {
    for (let next = left.shift(); next; next = left.shift()) {
      const [place, task] = next;
      answers[place] = await ask(task);
      done(task);
    }
  };
  try {
    await Promise.all(workers.map(work));
  } finally {
    await Promise.all(workers.map(({ worker }) => worker.terminate()));
  }
  return answers;
}

interface OpenWorker {
  readonly worker: Worker;
  ask<T extends CodecTask>(task: T): Promise<CodecAnswer<T>>;
}

function openWorker(): OpenWorker {
  const worker = new Worker(new URL('./codec-worker.ts', import.meta.url));
  return {
    worker,
    ask: (task) =>
      new Promise((resolve, reject) => {
        worker.once('message', (answer) => {
          worker.off('error', reject);
          resolve(answer);
        });
        worker.once('error', reject);
        worker.postMessage(task);
      }),
  };
}
