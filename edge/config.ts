// The edge's settings: from the environment on Node, Bun and Deno, from the bindings on Workers. `npm start -- --help`
// prints them.
import { z } from 'zod';
import {
  type Environment,
  integer,
  list,
  optionalText,
  readSettings,
  secret,
  setting,
  text,
} from '../core/contract/settings.ts';

export const edgeSettings = {
  HOST: setting(text, '127.0.0.1', 'address that edge and core listen on'),
  EDGE_PORT: setting(integer(0, 65_535), '8000', "the edge's port (0: a free one)"),
  CORE_URLS: setting(
    list.pipe(z.array(z.url({ protocol: /^https?$/, error: 'must be http(s)://… URLs, comma separated' }))),
    '',
    'a core elsewhere; unset: the core of the same process',
  ),
  INTERNAL_SECRET: setting(secret(32), '', 'base64, shared with the core that CORE_URLS names'),
  BODY_BYTES_MAX: setting(integer(1024, 2 ** 40), String(512 << 20), 'largest request body'),
  NONCES_MAX: setting(integer(1000, 16_000_000), '1000000', 'nonces remembered for 330 s; requests beyond are refused'),
  EDGE_KEY_SECONDS: setting(integer(1, 3600), '30', 'how long a key fetched from a core elsewhere is kept'),
  METRICS_TOKEN: setting(optionalText, '', 'bearer token for /metrics where HOST is not loopback'),
} as const;

export type EdgeConfig = ReturnType<typeof readEdgeConfig>;

export const readEdgeConfig = (environment: Environment) => readSettings(edgeSettings, environment);
