// Part 4 of the walk over the books of tensors and KV; see walk.ts.
import { walkBooks } from '../../support/books/walk.ts';

walkBooks(3);
