// sha-256 of bodies while they stream, in a thread of its own, so that the loop that receives them goes on receiving.
// The thread reads the shared pieces where they lie. A body's pieces are hashed in the order of `update`; the promise says
// when the piece may be reused. Private pieces are small: hashed here, at once. If the thread dies, every body that waits
// fails and the next one starts a new thread.
import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { Piece, Pieces } from '../gpu/pieces.ts';
import type { DigestWord } from './digest-worker.ts';

export interface Digest {
  update(piece: Piece, length: number): Promise<void>;
  end(): Promise<Uint8Array>;
  /** The body is given up: forget it. */
  drop(): void;
}

export interface Digests {
  /** For a body that comes in shared pieces, or in private ones. */
  begin(kind: 'shared' | 'private'): Digest;
  close(): Promise<void>;
}

interface Waiting {
  resolve(digest: Uint8Array): void;
  reject(error: Error): void;
}
interface Thread {
  readonly worker: Worker;
  /** The answers to come of each body, in order. */
  readonly waiting: Map<number, Waiting[]>;
}
const NOTHING = new Uint8Array(0);

export function openDigests(pieces: Pieces): Digests {
  let nextBody = 1;
  let current: Thread | undefined;

  function start(): Thread {
    const worker = new Worker(new URL('./digest-worker.ts', import.meta.url), { workerData: pieces.handle });
    const waiting: Thread['waiting'] = new Map();
    const fresh = { worker, waiting };
    worker.unref();
    worker.on('message', ({ body, digest }: { body: number; digest?: Uint8Array }) => {
      const list = waiting.get(body);
      const first = list?.shift();
      if (list?.length === 0) waiting.delete(body);
      first?.resolve(digest ?? NOTHING);
    });
    worker.on('error', (cause) => fail(new Error('the thread that hashes bodies failed', { cause })));
    worker.on('exit', () => fail(new Error('the thread that hashes bodies ended')));
    return fresh;

    function fail(error: Error): void {
      if (current === fresh) current = undefined;
      for (const list of waiting.values()) for (const one of list) one.reject(error);
      waiting.clear();
    }
  }

  function say(thread: Thread, word: DigestWord): Promise<Uint8Array> {
    thread.worker.postMessage(word);
    return new Promise((resolve, reject) => {
      const list = thread.waiting.get(word.body) ?? [];
      thread.waiting.set(word.body, list);
      list.push({ resolve, reject });
    });
  }

  function shared(): Digest {
    const body = nextBody++;
    let mine: Thread | undefined;
    /** A body's hash lives in one thread: another would know only the rest of it. */
    async function ask(word: DigestWord): Promise<Uint8Array> {
      current ??= start();
      mine ??= current;
      if (mine !== current) throw new Error('the thread that hashed this body ended');
      return say(mine, word);
    }
    return {
      update: (piece, length) => ask({ body, piece: piece.index, length }).then(() => {}),
      end: () => ask({ body, end: true }),
      drop: () => mine?.worker.postMessage({ body, drop: true } satisfies DigestWord),
    };
  }

  return {
    begin: (kind) => (kind === 'shared' ? shared() : inline()),
    async close() {
      const last = current;
      current = undefined;
      await last?.worker.terminate();
    },
  };
}

function inline(): Digest {
  const hash = createHash('sha256');
  return {
    async update(piece, length) {
      hash.update(piece.bytes.subarray(0, length));
    },
    end: async () => hash.digest(),
    drop() {},
  };
}
