// `npm start`: builds everything top-down, closes it in reverse. One process with two listeners, the edge's and the core's;
// with CORE_URLS only the edge, before cores elsewhere.
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { appendAudit } from '../db/audit.ts';
import { type Database, openDatabase } from '../db/client.ts';
import { eraseTenant } from '../db/erase.ts';
import { lockFolder } from '../db/folder-lock.ts';
import { edgeSettings, readEdgeConfig } from '../edge/config.ts';
import { type Listener, listen, startEdge } from '../edge/node.ts';
import { createAudit } from './audit.ts';
import type { AuditLine } from './backups/asker.ts';
import { openBackups } from './backups/backups.ts';
import { finishPlacing } from './backups/placing.ts';
import { completeRestore } from './backups/restoring.ts';
import { databaseRows } from './backups/rows.ts';
import { wordsOf } from './backups/words.ts';
import { type Cache, openCache } from './cache/cache.ts';
import { createChanges } from './cache/changes.ts';
import { createClaims } from './cache/claims.ts';
import { openCourseFile } from './cache/course-file.ts';
import { openDigests } from './cache/digest.ts';
import { openKvDisk } from './cache/kv/disk/shelf.ts';
import { type Kv, openKv } from './cache/kv/kv.ts';
import { createAuthenticate, createSealKey } from './callers.ts';
import { BLOCK_TOKENS } from './codec/pages.ts';
import { type CoreConfig, coreSettings, readCoreConfig } from './config.ts';
import { nodeCrypto } from './contract/crypto-node.ts';
import { metricsGuard } from './contract/metrics-guard.ts';
import { memoryNonces } from './contract/nonces.ts';
import { describeSettings, type Environment, refuseUnknown, SettingsError } from './contract/settings.ts';
import { openErasures } from './erasure/erasures.ts';
import { amongKv, amongTensors, inBackups, inDatabase, inThePast, onDisk } from './erasure/places.ts';
import { openReceipts } from './erasure/receipts.ts';
import type { Place } from './erasure/scope.ts';
import { ensureAdminKey, masterKey } from './first-key.ts';
import { wantedOf } from './gpu/kernel-choice.ts';
import { openPieces } from './gpu/pieces.ts';
import { openPool } from './gpu/pool.ts';
import { createGrants } from './grants.ts';
import { type Keyring, openKeyring } from './keys.ts';
import { createMetrics } from './metrics.ts';
import { describePresets, withPresets } from './presets.ts';
import { createReadiness } from './readiness.ts';
import { createServer } from './server.ts';
import { openChangingStore } from './store/changing.ts';
import { realDisk } from './store/disk.ts';
import { openStore, type Store } from './store/store.ts';
import { wholeTensor } from './tensor-answers.ts';
import { assertSettled } from './upgrade/journal.ts';

const STOP_MS_MAX = 9_500;
/** Of a tensor that the edge is to keep. */
const WHOLE_MS_MAX = 10_000;
/** How often claims are looked through for those that ran out. */
const CLAIMS_MS = 100;
const settings = { ...coreSettings, ...edgeSettings };

/** Not ours, but no mistakes either: the command line reads them. */
const FOR_THE_COMMAND_LINE = ['BLATAM_URL', 'BLATAM_KEY_FILE'];

const HELP = `Usage: npm start

Runs the edge and the core in one process. Everything is set by the environment, all of it has a default:

${describeSettings(settings)}

BLATAM_PRESET is one of these, or several with commas; where two say something of one setting, the later is heard:

${describePresets()}

The first start makes an administrator's key in DATA_DIR/admin-key.json. Stop it with Ctrl-C or SIGTERM.`;

// Whoever read our output may leave; that is no reason to end.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const started = performance.now();
const log = (line: string): void => {
  process.stdout.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
};

/** What was opened, to be closed in reverse. */
const opened: { name: string; close: () => Promise<void> }[] = [];
let stopping = false;

const listeners: Listener[] = [];
/** Told when the end begins: who keeps callers waiting lets them go. */
const beforeStop: (() => void)[] = [];

async function stop(code: number): Promise<never> {
  stopping = true;
  const begun = performance.now();
  const timer = setTimeout(() => process.exit(code || 1), STOP_MS_MAX);
  for (const tell of beforeStop) tell();
  await Promise.all(listeners.map((listener) => listener.close()));
  for (const part of opened.reverse())
    await part.close().catch((error: unknown) => log(`closing ${part.name}: ${String(error)}`));
  clearTimeout(timer);
  if (code === 0) log(`stopped in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  process.exit(code);
}

async function startCore(config: CoreConfig) {
  const { DATA_DIR: dataDir } = config;
  makeFolder(dataDir);
  const lock = await lockFolder(dataDir, 'core');
  opened.push({ name: 'lock', close: lock.release });
  await assertSettled(dataDir);
  const pidFile = join(dataDir, 'core.pid');
  writeFileSync(pidFile, `${process.pid}\n`);
  opened.push({ name: 'pid file', close: async () => rmSync(pidFile, { force: true }) });

  const pieces = await openPieces({ count: config.GPU_PIECES, shared: config.GPU_TRANSPORT === 'ring' });
  let forgetLost = () => {};
  const changes = createChanges(Date.now);
  beforeStop.push(changes.close);
  let mend: (tenant: string, key: string) => void = () => {};
  await finishPlacing(dataDir, realDisk, log);
  const openStoreHere = () =>
    openStore(join(dataDir, 'cache'), log, {
      scrubBytesPerSecond: config.SCRUB_MIB_PER_SECOND * 2 ** 20,
      bytesMax: MiB(config.DISK_MIB),
      damaged: ({ tenant, key }) => mend(tenant, key),
    });
  const opening = [
    openDatabase({ url: config.DATABASE_URL, dataDir, log, poolMax: config.DATABASE_POOL }),
    openPool({
      adapters: config.GPU_ADAPTERS.join() === 'auto' ? 'auto' : config.GPU_ADAPTERS,
      dataDir,
      memoryBytes: config.GPU_MEMORY_MIB * 2 ** 20,
      deadlineMs: config.GPU_DEADLINE_MS,
      robustness: config.GPU_ROBUSTNESS === 'on',
      warm: config.GPU_KERNELS_WARM,
      pieces,
      environment: withoutSettings(process.env),
      log,
      onLost: () => forgetLost(),
    }),
    openChangingStore(openStoreHere),
  ] as const;
  const [database, pool, store] = await Promise.all([
    remember('database', opening[0]),
    remember('adapters', opening[1]),
    remember('store', opening[2]),
  ]);
  const keys = { database, masterKey: masterKey(dataDir, config.MASTER_KEY), now: Date.now };
  const firstKey = await ensureAdminKey({ ...keys, dataDir });
  const keyring = openKeyring(keys);
  const audit = createAudit({ database, now: Date.now, log });
  opened.push({ name: 'audit', close: audit.flush });
  const digests = openDigests(pieces);
  opened.push({ name: 'digests', close: digests.close });
  const settings = {
    strategy: config.CACHE_STRATEGY,
    objective: config.CACHE_OBJECTIVE,
    adjustEvery: config.CACHE_ADJUST_EVERY,
  };
  const { course, keep, ...courseFile } = await openCourseFile(join(dataDir, 'policy.json'), settings, log);
  opened.push({ name: 'policy', ...courseFile });
  const cache = openCache({
    pool,
    pieces,
    digests,
    store,
    bodyBytesMax: config.BODY_BYTES_MAX,
    entriesMax: config.CACHE_ENTRIES_MAX,
    course,
    chosen: keep,
    quota: {
      share: config.TENANT_MEMORY_PERCENT / 100,
      diskBytes: MiB(config.TENANT_DISK_MIB),
      entries: config.TENANT_ENTRIES_MAX ?? Number.POSITIVE_INFINITY,
    },
    flush: { bytesMax: MiB(config.CACHE_FLUSH_MIB), msMax: config.CACHE_FLUSH_MS },
    prefetch: config.CACHE_PREFETCH,
    changed: changes.tell,
    heat: { path: join(dataDir, 'cache', 'heat.json'), share: config.CACHE_WARM_PERCENT / 100 },
    now: Date.now,
    log,
  });
  const kvDisk = await openKvDisk(join(dataDir, 'cache', 'kv'), MiB(config.KV_DISK_MIB), realDisk);
  const kv = openKv({
    pool,
    pieces,
    digests,
    bodyBytesMax: config.BODY_BYTES_MAX,
    share: config.KV_MEMORY_PERCENT / 100,
    quota: config.TENANT_MEMORY_PERCENT / 100,
    window: {
      firstBlocks: Math.ceil(config.KV_EXACT_FIRST / BLOCK_TOKENS),
      lastBlocks: Math.ceil(config.KV_EXACT_LAST / BLOCK_TOKENS),
    },
    coldBytesMax: MiB(config.COLD_MEMORY_MIB),
    prefetch: config.CACHE_PREFETCH,
    disk: kvDisk,
    course,
    recomputeTokensPerSecond: config.KV_RECOMPUTE_TOKENS_PER_SECOND,
    verifyMs: config.KV_VERIFY_SECONDS * 1000,
    canary: { share: config.KV_CANARY_PERCENT / 100, random: Math.random },
    log,
    makeRoom: cache.makeRoom,
    now: Date.now,
  });
  opened.push({ name: 'kv', close: kv.close });
  beforeStop.push(kv.endEvents);
  mend = (tenant, key) => void cache.mend(tenant, key);
  forgetLost = () => {
    cache.dropLost();
    kv.dropLost();
  };
  opened.push({ name: 'cache', close: cache.close });
  const restoring = {
    ...{ dataDir, log, disk: realDisk, rows: databaseRows(database.query, realDisk) },
    audit: (line: AuditLine) => appendAudit(database.query, line),
  };
  await completeRestore(restoring);
  const backupFolder = config.BACKUP_DIR ?? join(dataDir, 'backups');
  const backups = await remember(
    'backups',
    openBackups({
      ...restoring,
      ...{ store, flush: cache.flushed, startOver: cache.startOver, now: Date.now },
      folder: backupFolder,
      retention: { count: config.BACKUP_KEEP, days: config.BACKUP_KEEP_DAYS },
      schedule: { everyHours: config.BACKUP_EVERY_HOURS, drillEveryHours: config.BACKUP_DRILL_EVERY_HOURS },
    }),
  );
  const claims = createClaims({ now: Date.now });
  setInterval(claims.expire, CLAIMS_MS).unref();
  beforeStop.push(claims.close);

  const receipts = await openReceipts(dataDir);
  const erasures = await openErasures({
    ...{ dataDir, receipts, now: Date.now, log },
    places: placesOf(dataDir, { database, keyring, cache, kv, store, backupFolder, adminKeyid: firstKey.keyid }),
    alone: (work) => backups.alone('an erasure', work),
    audit: (line) => appendAudit(database.query, line),
  });
  opened.push({ name: 'erasures', close: erasures.close });
  await erasures.finish();

  const nonces = memoryNonces({ max: config.NONCES_MAX, now: Date.now });
  const internalSecret = config.INTERNAL_SECRET;
  const readiness = createReadiness({
    process: () => ({ ok: !stopping, detail: stopping ? 'stopping' : 'runs' }),
    database: async () => {
      await database.ping();
      return { ok: true, detail: database.kind };
    },
    adapters: () => ({ ok: pool.ready, detail: pool.summary }),
    backups: () => ({ ok: true, detail: wordsOf(backups.status, Date.now()) }),
  });
  const metrics = createMetrics();
  metrics.watch({ cache, claims, kv, pool, pieces, store, backups });
  const server = createServer({
    cache,
    claims,
    changes,
    kv,
    pool,
    backups,
    erasures,
    receiptKey: receipts.key,
    readiness,
    metrics,
    authenticate: createAuthenticate({ crypto: nodeCrypto, keyring, nonces, now: Date.now, internalSecret }),
    grants: createGrants({ ...keys, keyring }),
    audit,
    sealKey: createSealKey(keyring, internalSecret),
    mayReadMetrics: metricsGuard(config.HOST, config.METRICS_TOKEN),
    log,
  });
  const listener = await listen(server.fetch, config.HOST, config.CORE_PORT, 'CORE_PORT');
  listeners.push(listener);
  return { listener, server, cache, changes, keyring, audit, nonces, readiness, firstKey, pool, store };
}

interface Erased {
  readonly database: Database;
  readonly keyring: Keyring;
  readonly cache: Cache;
  readonly kv: Kv;
  readonly store: Store;
  readonly backupFolder: string;
  /** Stays with its tenant, or nobody could do anything any more. */
  readonly adminKeyid: string;
}

/** All that remembers something of a tenant, in the order in which it is erased. */
function placesOf(dataDir: string, { database, keyring, cache, kv, store, backupFolder, adminKeyid }: Erased): Place[] {
  return [
    inDatabase(
      async (tenant) => {
        const { keyids, tenants } = await eraseTenant(database.query, tenant, adminKeyid);
        for (const keyid of keyids) keyring.forget(keyid);
        return { keys: keyids.length, tenants };
      },
      dataDir,
      realDisk,
    ),
    amongTensors(cache),
    amongKv(kv),
    onDisk(store),
    // Those of before BACKUP_DIR was set too.
    inBackups([...new Set([backupFolder, join(dataDir, 'backups')])], realDisk),
    inThePast(dataDir, realDisk),
  ];
}

/** In bytes; no limit where none is set. */
const MiB = (count = Number.POSITIVE_INFINITY): number => count * 2 ** 20;

/** Said before anything is opened: a process that compiles in the background can tell nobody. */
function checkKernels(wanted: readonly string[]): void {
  try {
    for (const each of wanted) wantedOf(each);
  } catch (error) {
    throw new SettingsError(`GPU_KERNELS_WARM: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** An adapter's process needs the machine's environment, and none of our secrets. */
const withoutSettings = (environment: Environment): Environment =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !(name in settings)));

/** Step by step: where a folder above cannot be made, Node's own recursive form tries for ever. */
function makeFolder(path: string): void {
  if (existsSync(path) && statSync(path).isDirectory()) return;
  if (dirname(path) !== path) makeFolder(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    throw new SettingsError(`DATA_DIR: ${path} cannot be made a folder (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** Kept for the end as soon as it is open, even if what opens beside it fails. */
async function remember<T extends { close(): Promise<void> }>(name: string, opening: Promise<T>): Promise<T> {
  const part = await opening;
  opened.push({ name, close: () => part.close() });
  return part;
}

async function main(): Promise<void> {
  const environment = withPresets(process.env);
  const edgeConfig = readEdgeConfig(environment);
  const config = readCoreConfig(environment);
  checkKernels(config.GPU_KERNELS_WARM);
  refuseUnknown([...Object.keys(settings), ...FOR_THE_COMMAND_LINE], process.env);
  if (edgeConfig.CORE_URLS.length > 0) {
    const edge = await startEdge({ config: edgeConfig, core: undefined, log });
    listeners.push(edge);
    return log(`edge on http://${edgeConfig.HOST}:${edge.port}, before ${edgeConfig.CORE_URLS.join(' ')}`);
  }
  const core = await startCore(config);
  const edge = await startEdge({
    config: edgeConfig,
    core: {
      fetch: (request, bindings) => core.server.fetch(request, bindings),
      keyOf: core.keyring.keyOf,
      refusals: core.audit,
      nonces: core.nonces,
      tensor: (tenant, key, bytesMax) =>
        wholeTensor(core.cache, { tenant, key }, bytesMax, AbortSignal.timeout(WHOLE_MS_MAX)),
      onChange: core.changes.hear,
      ready: async () => {
        const { ready, checks } = await core.readiness();
        const said = Object.entries(checks).filter(([, { ok }]) => ok === ready);
        return { ok: ready, detail: said.map(([name, { detail }]) => `${name}: ${detail}`).join('; ') };
      },
    },
    log,
  });
  listeners.push(edge);
  greet(config, edge, core);
}

function greet(config: CoreConfig, edge: Listener, core: Awaited<ReturnType<typeof startCore>>): void {
  const { store, pool, firstKey } = core;
  log(`${store.found.length} tensors on disk, ${(store.bytes / 2 ** 20).toFixed(1)} MiB`);
  for (const { id, state, source, reason } of pool.report())
    if (state !== 'ready') log(`${id} (${source}) has no adapter yet, and goes on trying: ${reason}`);
  if (!pool.ready) log('without an adapter reads from disk work, and writes are refused until there is one');
  log(`edge on http://${config.HOST}:${edge.port}, core on http://${config.HOST}:${core.listener.port}`);
  log(`administrator's key: ${firstKey.path}${firstKey.made ? ' (made now)' : ''}`);
  log(
    `${pool.ready ? 'ready' : 'up, not ready,'} in ${((performance.now() - started) / 1000).toFixed(1)} s. Try: npx blatam adapters`,
  );
}

if (process.argv.includes('--help') || process.argv.includes('-h')) {
  process.stdout.write(`${HELP}\n`);
} else if (process.argv.length > 2) {
  process.stderr.write(`npm start takes no arguments but --help; found ${process.argv.slice(2).join(' ')}\n`);
  process.exitCode = 2;
} else {
  // Ctrl-C comes twice, from the terminal and from npm: once is enough.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (stopping) return;
      log(`${signal}: stopping`);
      void stop(0);
    });
  main().catch((error: unknown) => {
    const known = error instanceof SettingsError;
    process.stderr.write(
      `cannot start: ${known || error instanceof Error ? (error as Error).message : String(error)}\n`,
    );
    void stop(1);
  });
}
