// A block's exact pages in the form that was asked for, on the same adapter: coded from the old ones there, nothing travels.
// The new pages are whole before they take the place of the old ones, which go back with their last reader. Whoever comes
// while a block is recoded waits for that. Where there is no room for both, a block stays as it is. Old pages are compared with
// their seals meanwhile: nothing is made of a damaged one.

import { type MeanRows, type Records, recoding, tableOf } from '../../codec/coding.ts';
import { BLOCK_TOKENS, type Form, isRotated, recordsAt, sameForm } from '../../codec/pages.ts';
import type { KvShape } from '../../contract/kv.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import { together } from '../../gpu/together.ts';
import { SCRATCH_BYTES, type Work } from '../../gpu/work.ts';
import type { Held, HeldPages, KvBlock } from './held.ts';
import { sealPages, verifyPages } from './seals.ts';

const underWay = new WeakMap<KvBlock, Promise<void>>();

export async function recode(block: KvBlock, form: Form, held: HeldPages, signal: AbortSignal): Promise<void> {
  for (let other = underWay.get(block); other; other = underWay.get(block)) await other.catch(() => {});
  if (block.removed || !block.kept.hot || sameForm(block.kept.hot.form, form)) return;
  const done = recodeNow(block, form, held, signal).finally(() => underWay.delete(block));
  underWay.set(block, done);
  await done;
}

async function recodeNow(block: KvBlock, form: Form, held: HeldPages, signal: AbortSignal): Promise<void> {
  const { shape } = block.root;
  const { pages: old, release } = held.read([block]);
  try {
    const [from] = old;
    if (!from) return;
    const lease = held.leaseNear(from.lease, { tenant: block.kept.tenant, shape, form });
    if (!lease) return;
    try {
      await together([
        verifyPages(held, [block], old, {}, signal),
        ...Array.from({ length: shape.layers }, (_, layer) => recodeLayer(shape, layer, from, { form, lease }, signal)),
      ]);
      const [seals] = await sealPages([lease], signal);
      if (!seals) throw new Error('pages were given no seals');
      held.replace(block, from, { ...from, lease, form, wanted: form, seals });
    } catch (error) {
      held.release(lease);
      throw error;
    }
  } finally {
    release();
  }
}

/** Into the page of that layer of another lease on the same adapter. */
export async function recodeLayer(
  shape: KvShape,
  layer: number,
  from: Held,
  { form, lease }: Pick<Held, 'form' | 'lease'>,
  signal: AbortSignal,
): Promise<void> {
  for (const work of layerWork(shape, layer, from, form, lease)) await lease.run(work, { signal });
}

/** A layer's runs: as many heads in one as scratch has room for. */
function* layerWork(shape: KvShape, layer: number, from: Held, to: Form, lease: GpuLease): Generator<Work, void, void> {
  const { kvHeads, dim } = shape;
  const most = Math.max(1, Math.floor(SCRATCH_BYTES / (BLOCK_TOKENS * dim * 4)));
  for (let head = 0; head < kvHeads; head += most) {
    const heads = Math.min(most, kvHeads - head);
    for (const part of ['k', 'v'] as const) {
      const means =
        part === 'k' && isRotated(to.k) && from.means
          ? meanRows(from.means.values, shape, layer, head, heads)
          : undefined;
      const records = (form: Form, { range }: GpuLease): Records => ({
        page: range(layer),
        word: recordsAt(shape, form, part, head),
        codec: form[part],
        vectors: heads * BLOCK_TOKENS,
        at: 0,
      });
      yield {
        uploads: means ? [tableOf(means)] : [],
        dispatches: recoding(records(from.form, from.lease), records(to, lease), dim, means),
      };
    }
  }
}

function meanRows(
  values: Float32Array,
  { kvHeads, dim }: KvShape,
  layer: number,
  head: number,
  heads: number,
): MeanRows {
  const first = (layer * kvHeads + head) * dim;
  return { values: values.subarray(first, first + heads * dim), each: BLOCK_TOKENS, begun: 0 };
}
