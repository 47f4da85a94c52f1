// Pins: beginnings of sequences that somebody wants kept for a while, whatever else comes. A pinned block is held, and so are all
// before it: it is never evicted, and does not expire before its pin does. What cannot be kept goes nevertheless, and its pins
// lose it: when its adapter is lost or drained without room elsewhere, and when somebody clears it who has stored it.
// Counted: what was pinned twice is pinned until both pins are gone. A pin goes by its id, by its tokens, or by its time.
// Bounds: 1,000 pins a tenant; blocks of a tenant's pins may take a quarter of the memory for KV, those of all a half, so that
// there is always room that can be had.
import { createHash, randomUUID } from 'node:crypto';
import { problem } from '../../contract/problems.ts';
import type { KvBlock } from './held.ts';

const PINS_MAX = 1000;
const TENANT_SHARE_MAX = 0.25;
const SHARE_MAX = 0.5;

export interface PinsOptions {
  readonly now: () => number;
  /** What KV may take at all, in bytes. */
  readonly budget: () => number;
  readonly bytesOf: (block: KvBlock) => number;
  readonly hold: (blocks: readonly KvBlock[]) => () => void;
}

/** What a pin was asked for. */
export interface Pinned {
  readonly tenant: string;
  readonly scope: string;
  readonly model: string;
  readonly tokens: Int32Array;
}

export interface Pins {
  /** At least one block, from the first of its sequence on. */
  pin(asked: Pinned, chain: readonly KvBlock[], ttlSeconds: number): { pin: string; expiresAt: number };
  /** By its id; throws `pin_unknown`. How many pins the tenant has left. */
  unpin(tenant: string, id: string): number;
  /** Of those made for just these tokens, the one that ends first. */
  unpinTokens(asked: Pinned): number;
  /** Is out of the index: nobody's pin any more; whether it was one's. */
  drop(block: KvBlock): boolean;
  isPinned(block: KvBlock): boolean;
  sweep(): void;
  stats(): { pins: number; blocks: number; bytes: number };
}

interface Pin {
  readonly id: string;
  /** A hash of what it was asked for. */
  readonly asked: string;
  /** Those before it are pinned too. */
  readonly last: KvBlock;
  readonly expiresAt: number;
}

interface Hold {
  pins: number;
  readonly bytes: number;
  readonly release: () => void;
}

interface TenantPins {
  readonly pins: Map<string, Pin>;
  readonly holds: Map<KvBlock, Hold>;
  bytes: number;
}

export function createPins({ now, budget, bytesOf, hold }: PinsOptions): Pins {
  const tenants = new Map<string, TenantPins>();
  const sum = (read: (own: TenantPins) => number): number =>
    [...tenants.values()].reduce((total, own) => total + read(own), 0);

  function assertRoom(own: TenantPins, chain: readonly KvBlock[]): void {
    if (own.pins.size >= PINS_MAX)
      throw problem('pins_full', `Your tenant has ${PINS_MAX} pins, as many as may be. Unpin some, or let them end.`);
    const bytes = chain.reduce((total, block) => total + (own.holds.has(block) ? 0 : bytesOf(block)), 0);
    const refuse = (whose: string, share: number): never => {
      const bytesMax = Math.floor(share * budget());
      throw problem(
        'pins_full',
        `These blocks need ${bytes} bytes that are not pinned yet, and what ${whose} pins hold would be beyond the ${bytesMax} that they may. Unpin others, pin fewer tokens, or come again later.`,
      );
    };
    if (own.bytes + bytes > TENANT_SHARE_MAX * budget()) refuse("your tenant's", TENANT_SHARE_MAX);
    if (sum(({ bytes }) => bytes) + bytes > SHARE_MAX * budget()) refuse("all tenants'", SHARE_MAX);
  }

  function letGo(own: TenantPins, { last }: Pin): void {
    for (let block: KvBlock | undefined = last; block; block = block.parent) {
      const held = own.holds.get(block);
      if (held && --held.pins === 0) release(own, block, held);
    }
  }

  function release(own: TenantPins, block: KvBlock, { bytes, release }: Hold): void {
    own.holds.delete(block);
    own.bytes -= bytes;
    release();
  }

  function end(tenant: string, own: TenantPins, pin: Pin): number {
    own.pins.delete(pin.id);
    letGo(own, pin);
    if (own.pins.size === 0) tenants.delete(tenant);
    return own.pins.size;
  }

  function sweep(): void {
    for (const [tenant, own] of tenants)
      for (const pin of own.pins.values()) if (pin.expiresAt <= now()) end(tenant, own, pin);
  }

  return {
    pin(asked, chain, ttlSeconds) {
      sweep();
      const last = chain.at(-1);
      if (!last) throw new Error('nothing was to be pinned');
      const own = tenants.get(asked.tenant) ?? { pins: new Map(), holds: new Map(), bytes: 0 };
      assertRoom(own, chain);
      const expiresAt = now() + ttlSeconds * 1000;
      for (const block of chain) {
        const held = own.holds.get(block) ?? { pins: 0, bytes: bytesOf(block), release: hold([block]) };
        if (held.pins++ > 0) continue;
        own.holds.set(block, held);
        own.bytes += held.bytes;
      }
      const pin = { id: randomUUID(), asked: nameOf(asked), last, expiresAt };
      own.pins.set(pin.id, pin);
      tenants.set(asked.tenant, own);
      return { pin: pin.id, expiresAt };
    },
    unpin(tenant, id) {
      sweep();
      const own = tenants.get(tenant);
      const pin = own?.pins.get(id);
      if (!own || !pin) throw unknown(`the pin ${id.slice(0, 64)}`);
      return end(tenant, own, pin);
    },
    unpinTokens(asked) {
      sweep();
      const own = tenants.get(asked.tenant);
      const name = nameOf(asked);
      const pins = [...(own?.pins.values() ?? [])].filter((pin) => pin.asked === name);
      const [first] = pins.toSorted((a, b) => a.expiresAt - b.expiresAt);
      if (!own || !first) throw unknown('a pin of just these tokens, model and salt');
      return end(asked.tenant, own, first);
    },
    drop(block) {
      let wasPinned = false;
      for (const own of tenants.values()) {
        const held = own.holds.get(block);
        if (!held) continue;
        wasPinned = true;
        release(own, block, held);
      }
      return wasPinned;
    },
    isPinned: (block) => [...tenants.values()].some(({ holds }) => holds.has(block)),
    sweep,
    stats: () => ({
      pins: sum(({ pins }) => pins.size),
      blocks: sum(({ holds }) => holds.size),
      bytes: sum(({ bytes }) => bytes),
    }),
  };
}

const unknown = (what: string) =>
  problem('pin_unknown', `Your tenant does not have ${what}: it ended, was taken away before, or never was.`);

function nameOf({ scope, model, tokens }: Pinned): string {
  const hash = createHash('sha256').update(JSON.stringify([scope, model]));
  return hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength)).digest('hex');
}
