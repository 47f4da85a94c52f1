// A thread that sees the shared pieces and raises every byte of one piece by one.
import { parentPort, workerData } from 'node:worker_threads';
import { openHandle, type SharedHandle } from '../../core/gpu/memory.ts';
import { PIECE_BYTES } from '../../core/gpu/pieces.ts';

const { handle, index } = workerData as { handle: SharedHandle; index: number };
const memory = await openHandle(handle);
const piece = memory.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
for (let i = 0; i < piece.length; i++) piece[i] = ((piece[i] ?? 0) + 1) & 0xff;
parentPort?.postMessage('done');
