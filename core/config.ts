// The core's settings. `npm start -- --help` prints them.
import { resolve } from 'node:path';
import { z } from 'zod';
import { parseAdapter } from './contract/adapter-choice.ts';
import { OBJECTIVES, STRATEGIES } from './contract/policy.ts';
import {
  choice,
  type Environment,
  integer,
  list,
  optional,
  readSettings,
  secret,
  setting,
  text,
} from './contract/settings.ts';
import { sharedSettings } from './contract/shared-settings.ts';
import { PRESET_NAMES } from './presets.ts';

const ADAPTERS = 'must be auto, or a list of system, swiftshader and paths of Vulkan driver manifests';
const adapters = list.superRefine((entries, context) => {
  const refuse = (why: string) => context.addIssue({ code: 'custom', message: `${ADAPTERS}${why}` });
  if (entries.length === 0) refuse('');
  if (entries.join() === 'auto') return;
  for (const entry of entries)
    try {
      parseAdapter(entry);
    } catch (error) {
      refuse(`: ${(error as RangeError).message}`);
    }
});

const presets = list.refine(
  (names) => names.every((name) => PRESET_NAMES.includes(name)),
  `must be of ${PRESET_NAMES.join(', ')}`,
);

/** With decimals. */
const percent = z
  .string()
  .regex(/^\d+(\.\d+)?$/, 'must be a number from 0 to 100')
  .transform(Number)
  .refine((value) => value <= 100, 'must be a number from 0 to 100');

export const coreSettings = {
  ...sharedSettings,
  BLATAM_PRESET: setting(presets, '', 'bundles of settings for a size or a load, below; a setting of your own stays'),
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
  GPU_ADAPTERS: setting(
    adapters,
    'auto',
    'auto, or a list of: system, swiftshader, /path/to/vulkan-driver.json; each may go on ?name=PART or ?pci=0000:01:00.0',
  ),
  GPU_MEMORY_MIB: setting(integer(128, 1 << 20), '512', 'memory to set aside on each adapter, in steps of 128'),
  GPU_PIECES: setting(integer(8, 1024), '32', 'pieces of 4 MiB through which payloads travel'),
  GPU_TRANSPORT: setting(
    choice(['ring', 'socket']),
    'ring',
    'how payloads reach the adapter process; ring falls back to socket',
  ),
  GPU_DEADLINE_MS: setting(
    integer(100, 600_000),
    '30000',
    'an adapter process that answers nothing, or whose GPU finishes nothing, for this long is restarted',
  ),
  GPU_ROBUSTNESS: setting(
    choice(['on', 'off']),
    'on',
    'adapters keep shaders inside their bindings too; off trusts the checks before each dispatch',
  ),
  GPU_KERNELS_WARM: setting(
    list,
    'copy,checksum,pack,unpack,hadamard',
    'kernels compiled at the start, in the background; constants and element as in hadamard:BLOCK=64:f16',
  ),
  KV_MEMORY_PERCENT: setting(integer(0, 100), '50', 'share of the adapters that the KV of token sequences may take'),
  KV_EXACT_FIRST: setting(
    integer(0, 1 << 20),
    '4',
    'first tokens of a sequence that are kept in 16 bits, in whole blocks of 64',
  ),
  KV_EXACT_LAST: setting(integer(0, 1 << 20), '128', 'last tokens of a sequence kept so until others follow them'),
  KV_VERIFY_SECONDS: setting(
    integer(0, 86_400),
    '60',
    'attention compares pages with their checksums that nobody has compared for so long (0: each time)',
  ),
  KV_CANARY_PERCENT: setting(
    percent,
    '0.1',
    'share of attention after which codecs are compared with the exact blocks they stand for (0: never)',
  ),
  CACHE_STRATEGY: setting(
    choice(STRATEGIES),
    'adaptive',
    'who leaves an adapter that is full: by lru, lfu, or the best of several (adaptive)',
  ),
  CACHE_OBJECTIVE: setting(
    choice(OBJECTIVES),
    'hits',
    'what adaptive makes the most of: hits, bytes of hits, or the cost of having tensors again',
  ),
  CACHE_ADJUST_EVERY: setting(
    optional(integer(100, 1_000_000)),
    '',
    'requests between two comparisons of strategies by adaptive; unset: by what is held',
  ),
  TENANT_MEMORY_PERCENT: setting(
    integer(1, 100),
    '100',
    'share of each adapter that the tensors of one tenant may take, and of the room for KV that its KV may',
  ),
  COLD_MEMORY_MIB: setting(
    integer(0, 1 << 20),
    '256',
    'memory for KV that has no room on adapters, compressed (0: none, it is forgotten)',
  ),
  KV_DISK_MIB: setting(
    integer(0, 1 << 30),
    '1024',
    'disk for KV that has no room in memory, and for all of it at the end, so that a start finds it (0: none)',
  ),
  KV_RECOMPUTE_TOKENS_PER_SECOND: setting(
    integer(1, 10_000_000),
    '2000',
    'what callers are thought to compute: KV that comes back from memory or disk slower than this, does not',
  ),
  SCRUB_MIB_PER_SECOND: setting(
    integer(0, 1 << 20),
    '4',
    'how fast what is on disk is read again and again to find damage (0: not at all)',
  ),
  DISK_MIB: setting(
    optional(integer(256, 1 << 30)),
    '',
    'most that all tensors may have on disk: beyond it others leave; unset: no such limit, and nobody leaves',
  ),
  TENANT_DISK_MIB: setting(
    optional(integer(1, 1 << 30)),
    '',
    'most that one tenant may have on disk; unset: no such limit',
  ),
  TENANT_ENTRIES_MAX: setting(optional(integer(1, 10_000_000)), '', 'most tensors of one tenant; unset: no such limit'),
  CACHE_FLUSH_MIB: setting(
    integer(0, 1 << 20),
    '64',
    'most that was answered with durability=back and is not on disk; beyond it is written through',
  ),
  CACHE_FLUSH_MS: setting(
    integer(1, 3_600_000),
    '1000',
    'the same in time: while one waits longer, everything is written through',
  ),
  CACHE_ENTRIES_MAX: setting(integer(1, 10_000_000), '1000000', 'most tensors held'),
  CACHE_PREFETCH: setting(
    integer(0, 64),
    '4',
    'tensors, and blocks of KV, brought to an adapter at once before they are asked for; 0: none ever',
  ),
  CACHE_WARM_PERCENT: setting(
    integer(0, 100),
    '50',
    'share of the adapters that what was hot before a restart may take again; 0: none',
  ),
  BACKUP_DIR: setting(
    text.transform((path) => (path === '' ? undefined : resolve(path))),
    '',
    'where backups lie, on a disk of their own if possible; unset: DATA_DIR/backups',
  ),
  BACKUP_EVERY_HOURS: setting(integer(0, 8760), '24', 'how often a backup is made (0: only when asked for)'),
  BACKUP_KEEP: setting(integer(1, 10_000), '7', 'most backups kept; the newest that is whole always is'),
  BACKUP_KEEP_DAYS: setting(integer(1, 36_500), '30', 'how long a backup is kept'),
  BACKUP_DRILL_EVERY_HOURS: setting(
    integer(0, 8760),
    '168',
    'how often the newest backup is restored on trial and read (0: only when asked for)',
  ),
  MASTER_KEY: setting(secret(32), '', 'base64, seals the secrets in the database; unset: DATA_DIR/master.key'),
} as const;

export type CoreConfig = ReturnType<typeof readCoreConfig>;

export const readCoreConfig = (environment: Environment) => readSettings(coreSettings, environment);
