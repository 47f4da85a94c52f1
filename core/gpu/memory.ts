// Memory that the core, its worker threads and its adapter processes see at once.
// Preferred: an anonymous file (memfd) mapped by koffi; whoever inherits the descriptor maps the same pages, nothing has
// a name, nothing is left behind. Where koffi or memfd is missing: a SharedArrayBuffer, which threads share and processes
// do not, so that payloads then cross the socket. The mapping lives as long as the process.
import { closeSync, ftruncateSync, writeSync } from 'node:fs';

const MiB = 1 << 20;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MFD_CLOEXEC = 1;
/** MAP_FAILED, (void *) -1. */
const FAILED = 2n ** 64n - 1n;

export interface SharedMemory {
  readonly bytes: Uint8Array;
  /** To hand to a child process, which calls `mapDescriptor`; undefined where only threads can share. */
  readonly descriptor: number | undefined;
  /** What a worker thread needs to see the same bytes: give it to `openHandle`. */
  readonly handle: SharedHandle;
}

export type SharedHandle = { address: bigint; size: number } | { buffer: SharedArrayBuffer };

interface Libc {
  mmap(address: null, size: number, protection: number, flags: number, descriptor: number, offset: number): bigint;
  memfdCreate(name: string, flags: number): number;
  view(address: bigint, size: number): ArrayBuffer;
}

let libc: Promise<Libc | undefined> | undefined;

/** The C library by koffi, or undefined where that is not to be had (koffi is an optional dependency). */
async function loadLibc(): Promise<Libc | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    const { default: koffi } = await import('koffi');
    const c = koffi.load('libc.so.6');
    return {
      mmap: c.func('void *mmap(void *address, size_t size, int protection, int flags, int fd, int64_t offset)'),
      memfdCreate: c.func('int memfd_create(const char *name, unsigned int flags)'),
      view: (address, size) => koffi.view(address, size),
    };
  } catch {
    return undefined;
  }
}

const getLibc = (): Promise<Libc | undefined> => {
  libc ??= loadLibc();
  return libc;
};

export async function allocateShared(size: number, options: { processes: boolean }): Promise<SharedMemory> {
  const c = options.processes ? await getLibc() : undefined;
  const descriptor = c ? c.memfdCreate('blatam-pieces', MFD_CLOEXEC) : -1;
  if (!c || descriptor < 0) {
    const buffer = new SharedArrayBuffer(size);
    return { bytes: new Uint8Array(buffer), descriptor: undefined, handle: { buffer } };
  }
  try {
    ftruncateSync(descriptor, size);
    // Written, not only touched: a full memory then says ENOSPC here instead of killing the process with SIGBUS later.
    const zeros = new Uint8Array(MiB);
    for (let at = 0; at < size; at += MiB) writeSync(descriptor, zeros, 0, Math.min(MiB, size - at), at);
    const address = map(c, descriptor, size);
    return { bytes: new Uint8Array(c.view(address, size)), descriptor, handle: { address, size } };
  } catch (cause) {
    closeSync(descriptor);
    throw new Error(`cannot set aside ${size / MiB} MiB of shared memory for payloads; set GPU_PIECES lower`, {
      cause,
    });
  }
}

/** In a child: the memory behind an inherited descriptor. */
export async function mapDescriptor(descriptor: number, size: number): Promise<Uint8Array> {
  const c = await getLibc();
  if (!c) throw new Error(`koffi is missing here, so the shared memory (descriptor ${descriptor}) cannot be mapped`);
  return new Uint8Array(c.view(map(c, descriptor, size), size));
}

/** In a worker thread: the memory behind a handle, at the address where the process has it mapped already. */
export async function openHandle(handle: SharedHandle): Promise<Uint8Array> {
  if ('buffer' in handle) return new Uint8Array(handle.buffer);
  const c = await getLibc();
  if (!c) throw new Error('koffi was there when the memory was mapped, and is gone');
  return new Uint8Array(c.view(handle.address, handle.size));
}

function map(c: Libc, descriptor: number, size: number): bigint {
  const address = c.mmap(null, size, PROT_READ_WRITE, MAP_SHARED, descriptor, 0);
  if (address === FAILED) throw new Error(`mmap of ${size} bytes failed`);
  return address;
}
