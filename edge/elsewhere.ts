// An edge before a core elsewhere, put together the same on every runtime. What a runtime has of its own is handed in:
// cryptography, its way to fetch, and whether it keeps metrics.
import type { Hono } from 'hono';
import type { Crypto } from '../core/contract/crypto.ts';
import { memoryNonces } from '../core/contract/nonces.ts';
import { createRefusals } from '../core/contract/refusals.ts';
import { createVerifier } from '../core/contract/signatures.ts';
import { createEdge, type EdgeEnv, type EdgeMetrics, type EdgeParts } from './app.ts';
import { SMALL_BODY_BYTES } from './body.ts';
import { addressesBy, type EdgeConfig } from './config.ts';
import { forwardElsewhere, keysElsewhere, refusalsElsewhere } from './forward.ts';
import { hotElsewhere } from './hot-elsewhere.ts';
import type { HotKeys } from './hot-keys.ts';
import { limitsBy } from './limit.ts';
import { coreElsewhere, readyElsewhere } from './reach.ts';
import { tokensBy } from './tokens.ts';

type Own = Pick<EdgeParts, 'mayReadMetrics' | 'addressOf' | 'goOn' | 'log' | 'accessLog'>;

export interface Surroundings extends Own {
  readonly config: EdgeConfig;
  readonly crypto: Crypto;
  readonly metricsOf: (hotKeys: HotKeys | undefined) => EdgeMetrics;
  readonly fetch?: typeof fetch;
  /** Whether the process lasts from request to request: what one began another may wait for, and cores are listened to. */
  readonly lasts: boolean;
}

export interface EdgeElsewhere {
  readonly edge: Hono<EdgeEnv>;
  /** To be called at the end. */
  readonly close: () => Promise<void>;
}

export function edgeElsewhere({ config, crypto, fetch, lasts, metricsOf, ...own }: Surroundings): EdgeElsewhere {
  const core = { ...coreElsewhere(config, crypto), ...(fetch && { fetch }) };
  const nonces = memoryNonces({ max: config.NONCES_MAX, now: Date.now });
  const keyOf = keysElsewhere(core, config.EDGE_KEY_SECONDS * 1000);
  const refusals = createRefusals({ write: refusalsElsewhere(core), now: Date.now, log: own.log });
  const hot = hotElsewhere(core, config, lasts, own.goOn);
  const end = new AbortController();
  if (lasts) hot.follow(end.signal);
  const edge = createEdge({
    verify: createVerifier({ crypto, now: Date.now, nonces, keyOf }),
    tokens: tokensBy(config, { crypto, log: own.log }),
    body: { bytesMax: config.BODY_BYTES_MAX, smallBytes: SMALL_BODY_BYTES, crypto },
    origins: config.EDGE_CORS_ORIGINS,
    hotKeys: hot.hotKeys,
    metrics: metricsOf(hot.hotKeys),
    forward: forwardElsewhere(core, own.goOn),
    coreReady: () => readyElsewhere(core),
    refusals,
    addresses: addressesBy(config),
    limits: limitsBy(config, { now: Date.now, movedOf: () => undefined }),
    ...own,
  });
  return {
    edge,
    close() {
      end.abort();
      return refusals.flush();
    },
  };
}
