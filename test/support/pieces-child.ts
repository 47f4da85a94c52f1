// A process that maps the shared pieces behind its descriptor 4 and raises every byte of one piece by one.
import { mapDescriptor } from '../../core/gpu/memory.ts';
import { PIECE_BYTES } from '../../core/gpu/pieces.ts';

const [count, index] = process.argv.slice(2).map(Number);
if (count === undefined || index === undefined) throw new Error('pieces-child.ts <count> <index>');
const memory = await mapDescriptor(4, count * PIECE_BYTES);
const piece = memory.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
for (let i = 0; i < piece.length; i++) piece[i] = ((piece[i] ?? 0) + 1) & 0xff;
