// The core's settings. `npm start -- --help` prints them.
import { resolve } from 'node:path';
import { z } from 'zod';
import {
  choice,
  type Environment,
  integer,
  list,
  optionalText,
  readSettings,
  secret,
  setting,
  text,
} from './contract/settings.ts';

const MiB = 1 << 20;

export const coreSettings = {
  HOST: setting(text, '127.0.0.1', 'address that edge and core listen on'),
  CORE_PORT: setting(integer(0, 65_535), '8002', "the core's port (0: a free one)"),
  DATA_DIR: setting(
    text.transform((path) => resolve(path)),
    './data',
    'where everything is kept',
  ),
  DATABASE_URL: setting(
    z
      .union([z.literal(''), z.url({ protocol: /^postgres(?:ql)?$/, error: 'must be postgres://…' })])
      .transform((s) => s || undefined),
    '',
    'an outside PostgreSQL; unset: a bundled one under DATA_DIR',
  ),
  DATABASE_POOL: setting(integer(1, 100), '8', 'connections to the database'),
  GPU_ADAPTERS: setting(list, 'auto', 'auto, or a list of: system, swiftshader, /path/to/vulkan-driver.json'),
  GPU_MEMORY_MIB: setting(integer(128, 1 << 20), '512', 'memory to set aside on each adapter, in steps of 128'),
  GPU_PIECES: setting(integer(8, 1024), '32', 'pieces of 4 MiB through which payloads travel'),
  GPU_TRANSPORT: setting(
    choice(['ring', 'socket']),
    'ring',
    'how payloads reach the adapter process; ring falls back to socket',
  ),
  GPU_DEADLINE_MS: setting(integer(100, 600_000), '30000', 'an adapter process that answers later is restarted'),
  BODY_BYTES_MAX: setting(integer(1024, 2 ** 40), String(512 * MiB), 'largest request body'),
  CACHE_ENTRIES_MAX: setting(integer(1, 10_000_000), '1000000', 'most tensors held'),
  NONCES_MAX: setting(integer(1000, 16_000_000), '1000000', 'nonces remembered for 330 s; requests beyond are refused'),
  INTERNAL_SECRET: setting(secret(32), '', 'base64, shared with edges on other machines; unset: no such edge may call'),
  MASTER_KEY: setting(secret(32), '', 'base64, seals the secrets in the database; unset: DATA_DIR/master.key'),
  METRICS_TOKEN: setting(optionalText, '', 'bearer token for /metrics where HOST is not loopback'),
} as const;

export type CoreConfig = ReturnType<typeof readCoreConfig>;

export const readCoreConfig = (environment: Environment) => readSettings(coreSettings, environment);
