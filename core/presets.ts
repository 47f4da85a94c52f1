// Bundles of settings by name: BLATAM_PRESET takes a size, a shape of the load, or both, the later before the earlier. A preset only
// changes defaults: what the environment sets itself stays. Pure.
import type { Environment } from './contract/settings.ts';

export interface Preset {
  readonly for: string;
  readonly settings: Readonly<Record<string, string>>;
}

export const PRESETS: Readonly<Record<string, Preset>> = {
  single: {
    for: 'one user, below 100 requests a second',
    settings: {
      GPU_PIECES: '16',
      DATABASE_POOL: '2',
      NONCES_MAX: '100000',
      CACHE_ENTRIES_MAX: '100000',
      CACHE_FLUSH_MIB: '32',
      COLD_MEMORY_MIB: '128',
    },
  },
  team: {
    for: '100 to 500 requests a second',
    settings: { GPU_PIECES: '64', CACHE_FLUSH_MIB: '128', COLD_MEMORY_MIB: '512' },
  },
  company: {
    for: '500 to 2,000 requests a second',
    settings: {
      GPU_PIECES: '128',
      DATABASE_POOL: '16',
      NONCES_MAX: '2000000',
      CACHE_ENTRIES_MAX: '4000000',
      CACHE_FLUSH_MIB: '256',
      CACHE_PREFETCH: '8',
      COLD_MEMORY_MIB: '2048',
      TENANT_MEMORY_PERCENT: '75',
    },
  },
  enterprise: {
    for: '2,000 requests a second and more',
    settings: {
      GPU_PIECES: '256',
      DATABASE_POOL: '32',
      NONCES_MAX: '8000000',
      CACHE_ENTRIES_MAX: '10000000',
      CACHE_FLUSH_MIB: '1024',
      CACHE_PREFETCH: '16',
      COLD_MEMORY_MIB: '8192',
      TENANT_MEMORY_PERCENT: '50',
    },
  },
  spikes: {
    for: 'quiet, then bursts: room for what comes at once, no guesses meanwhile',
    settings: { GPU_PIECES: '128', CACHE_FLUSH_MIB: '512', CACHE_FLUSH_MS: '5000', CACHE_PREFETCH: '0' },
  },
  steady: {
    for: 'the same load all day: strategies are changed seldom, a start brings much back',
    settings: { CACHE_ADJUST_EVERY: '50000', CACHE_PREFETCH: '8', CACHE_WARM_PERCENT: '80' },
  },
  variable: {
    for: 'loads that turn: strategies are compared often, a start brings little back',
    settings: { CACHE_STRATEGY: 'adaptive', CACHE_ADJUST_EVERY: '1000', CACHE_WARM_PERCENT: '25' },
  },
};
export const PRESET_NAMES = Object.keys(PRESETS);

/** The names in BLATAM_PRESET; those that there are not are refused where settings are read. */
export const presetsOf = (given: string | undefined): string[] =>
  given?.split(',').flatMap((name) => name.trim() || []) ?? [];

/** The environment with what its presets say of settings that it leaves open. */
export function withPresets(environment: Environment): Environment {
  const said: Record<string, string | undefined> = {};
  for (const name of presetsOf(environment.BLATAM_PRESET))
    if (Object.hasOwn(PRESETS, name)) Object.assign(said, PRESETS[name]?.settings);
  for (const [name, value] of Object.entries(environment)) if (value) said[name] = value;
  return said;
}

/** Each with what it sets, as a person reads it. */
export function describePresets(): string {
  const rows = Object.entries(PRESETS).map(([name, { for: meant, settings }]) => {
    const set = Object.entries(settings).map(([setting, value]) => `${setting}=${value}`);
    return `  ${name.padEnd(12)}${meant}\n${' '.repeat(14)}${set.join(' ')}`;
  });
  return rows.join('\n');
}
