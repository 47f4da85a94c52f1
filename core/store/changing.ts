// A store in whose place another can be put while it is used. For that moment what needs the disk is refused with `restoring`, and
// what has begun is waited for: commits and removals to their end, uploads for a while; those that take longer are cut, and refused.
// Invariant: nothing that began on the one store touches the other's files, but for readers, which finish on what they have
// opened. If the other does not open, the first one does again, and nothing has changed.
import { problem } from '../contract/problems.ts';
import type { Store, StoreWriter } from './store.ts';

/** How long an upload may go on before it is cut. */
const PATIENCE_MS = 5000;
const RETRY_SECONDS = 2;

export interface ChangingStore extends Store {
  /**
   * `change` puts other files into the store's place while none is open, or throws and leaves them as they were; the result
   * takes that back. `changed` is called when the other store is open, before anybody else can ask it anything.
   */
  change(change: () => Promise<() => Promise<void>>, changed: () => void): Promise<void>;
}

interface Upload {
  /** The commit under way. */
  readonly committing: Promise<unknown> | undefined;
  cut(): Promise<void>;
}

export async function openChangingStore(
  open: () => Promise<Store>,
  patienceMs: number = PATIENCE_MS,
): Promise<ChangingStore> {
  let store = await open();
  let isChanging = false;
  let isShut = false;
  let busy = 0;
  const uploads = new Set<Upload>();
  let look = () => {};

  async function ask<T>(work: () => Promise<T>): Promise<T> {
    if (isChanging) throw restoring();
    busy++;
    try {
      return await work();
    } finally {
      busy--;
      look();
    }
  }

  function follow(writer: StoreWriter): StoreWriter {
    let isCut = false;
    let committing: Promise<unknown> | undefined;
    const upload: Upload = {
      get committing() {
        return committing;
      },
      async cut() {
        isCut = true;
        await writer.abort();
        end();
      },
    };
    const end = () => {
      uploads.delete(upload);
      look();
    };
    uploads.add(upload);
    return {
      async write(piece, length, position) {
        if (isCut) throw restoring();
        await writer.write(piece, length, position);
      },
      async commit(record) {
        if (isCut) throw restoring();
        const done = writer.commit(record);
        committing = done.catch(() => {});
        const committed = await done;
        end();
        return committed;
      },
      async abort() {
        if (!isCut) await writer.abort();
        end();
      },
    };
  }

  /** Resolves when nothing is under way, having cut what took too long. */
  async function quiet(): Promise<void> {
    const isQuiet = () => busy === 0 && uploads.size === 0;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      look = () => void (isQuiet() && resolve());
      timer = setTimeout(resolve, patienceMs);
      look();
    }).finally(() => clearTimeout(timer));
    for (const upload of [...uploads]) {
      await upload.committing;
      if (uploads.has(upload)) await upload.cut();
    }
    await new Promise<void>((resolve) => {
      look = () => void (busy === 0 && resolve());
      look();
    });
    look = () => {};
  }

  async function replace(change: () => Promise<() => Promise<void>>): Promise<Store> {
    await quiet();
    await store.close();
    let takeBack = async () => {};
    try {
      takeBack = await change();
      return await open();
    } catch (error) {
      isShut = true; // for good, if not even the first one is put back and opens
      await takeBack();
      store = await open();
      isShut = false;
      throw error;
    }
  }

  return {
    get found() {
      return store.found;
    },
    get lost() {
      return store.lost;
    },
    get entries() {
      return store.entries;
    },
    get bytes() {
      return store.bytes;
    },
    get room() {
      return store.room;
    },
    begin: (aligned, bytes) => ask(async () => follow(await store.begin(aligned, bytes))),
    open: (record) => ask(() => store.open(record)),
    distrust(record) {
      if (!isChanging) store.distrust(record);
    },
    remove: (record) => ask(() => store.remove(record)),
    settle: () => store.settle(),
    scrub: () => store.scrub(),
    report: () => store.report(),
    erase: (erasure) => ask(() => store.erase(erasure)),
    backUp: (options) => ask(() => store.backUp(options)),
    async change(change, changed) {
      if (isChanging) throw restoring();
      isChanging = true;
      try {
        store = await replace(change);
        changed();
      } finally {
        isChanging = isShut;
      }
    },
    close: () => store.close(),
  };
}

const restoring = () =>
  problem('restoring', 'A backup is being put in place. Send the request again in a moment.', {
    retryAfterSeconds: RETRY_SECONDS,
  });
