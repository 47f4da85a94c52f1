// An edge before a core elsewhere, put together the same on every runtime. What a runtime has of its own is handed in:
// cryptography, its way to fetch, and whether it keeps metrics.
import type { Hono } from 'hono';
import type { Crypto } from '../core/contract/crypto.ts';
import { memoryNonces } from '../core/contract/nonces.ts';
import { createRefusals, type Refusals } from '../core/contract/refusals.ts';
import { createVerifier } from '../core/contract/signatures.ts';
import { createEdge, type EdgeEnv, type EdgeParts } from './app.ts';
import { SMALL_BODY_BYTES } from './body.ts';
import { addressesBy, type EdgeConfig } from './config.ts';
import { forwardElsewhere, keysElsewhere, refusalsElsewhere } from './forward.ts';
import { limitsBy } from './limit.ts';
import { coreElsewhere, readyElsewhere } from './reach.ts';
import { tokensBy } from './tokens.ts';

type Own = Pick<EdgeParts, 'metrics' | 'mayReadMetrics' | 'addressOf' | 'goOn' | 'log'>;

export interface Surroundings extends Own {
  readonly config: EdgeConfig;
  readonly crypto: Crypto;
  readonly fetch?: typeof fetch;
}

export interface EdgeElsewhere {
  readonly edge: Hono<EdgeEnv>;
  /** To be flushed at the end. */
  readonly refusals: Refusals;
}

export function edgeElsewhere({ config, crypto, fetch, ...own }: Surroundings): EdgeElsewhere {
  const core = { ...coreElsewhere(config, crypto), ...(fetch && { fetch }) };
  const nonces = memoryNonces({ max: config.NONCES_MAX, now: Date.now });
  const keyOf = keysElsewhere(core, config.EDGE_KEY_SECONDS * 1000);
  const refusals = createRefusals({ write: refusalsElsewhere(core), now: Date.now, log: own.log });
  const edge = createEdge({
    verify: createVerifier({ crypto, now: Date.now, nonces, keyOf }),
    tokens: tokensBy(config, { crypto, log: own.log }),
    body: { bytesMax: config.BODY_BYTES_MAX, smallBytes: SMALL_BODY_BYTES, crypto },
    origins: config.EDGE_CORS_ORIGINS,
    hotKeys: undefined,
    forward: forwardElsewhere(core, own.goOn),
    coreReady: () => readyElsewhere(core),
    refusals,
    addresses: addressesBy(config),
    limits: limitsBy(config, { now: Date.now, movedOf: () => undefined }),
    ...own,
  });
  return { edge, refusals };
}
