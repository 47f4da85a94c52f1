// The edge's settings: from the environment on Node, Bun and Deno, from the bindings on Workers. `npm start -- --help`
// prints them.
import { z } from 'zod';
import { type Environment, integer, list, readSettings, setting } from '../core/contract/settings.ts';
import { sharedSettings } from '../core/contract/shared-settings.ts';

export const edgeSettings = {
  ...sharedSettings,
  EDGE_PORT: setting(integer(0, 65_535), '8000', "the edge's port (0: a free one)"),
  CORE_URLS: setting(
    list.pipe(z.array(z.url({ protocol: /^https?$/, error: 'must be http(s)://… URLs, comma separated' }))),
    '',
    'a core elsewhere; unset: the core of the same process',
  ),
  EDGE_HOT_MIB: setting(integer(0, 65_536), '64', 'memory for tensors that are asked for often (0: none)'),
  EDGE_HOT_FRESH_MS: setting(
    integer(0, 600_000),
    '1000',
    'before a core elsewhere: how long such a tensor is answered without asking it',
  ),
  EDGE_HOT_STALE_MS: setting(integer(0, 600_000), '0', 'as above: and beyond that, while it is asked'),
  EDGE_HOT_ERROR_SECONDS: setting(integer(0, 86_400), '30', 'how long one is answered while the core is away'),
  EDGE_KEY_SECONDS: setting(integer(1, 3600), '30', 'how long a key fetched from a core elsewhere is kept'),
} as const;

export type EdgeConfig = ReturnType<typeof readEdgeConfig>;

export const readEdgeConfig = (environment: Environment) => readSettings(edgeSettings, environment);
