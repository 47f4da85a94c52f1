// The yardstick: copying the same bytes once from one warm buffer to another, in one thread of this process. Nothing that
// moves bytes between processes can do with less.
import type { Rival } from './rounds.ts';

export function memcpyRival(bytes: number): Rival<{ readonly body: Uint8Array }> {
  const into = new Uint8Array(bytes).fill(1); // written, so that its pages are there
  return {
    name: 'memcpy',
    pids: [],
    run({ body }) {
      const started = performance.now();
      into.set(body);
      return performance.now() - started;
    },
  };
}
