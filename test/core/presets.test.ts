// Presets: each sets what there is to what is allowed, an explicit setting stays, and the documents list what they set.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { coreSettings, readCoreConfig } from '../../core/config.ts';
import { SettingsError } from '../../core/contract/settings.ts';
import { describePresets, PRESETS, withPresets } from '../../core/presets.ts';

const docs = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');

for (const [name, { settings }] of Object.entries(PRESETS))
  test(`the preset ${name} sets settings, to what they may be, as the documents say`, () => {
    const config = readCoreConfig(withPresets({ BLATAM_PRESET: name })) as Readonly<Record<string, unknown>>;
    for (const [setting, value] of Object.entries(settings)) {
      assert.ok(Object.hasOwn(coreSettings, setting), setting);
      assert.equal(String(config[setting]), value);
      assert.ok(describePresets().includes(`${setting}=${value}`));
    }
    const row = docs.split('\n').find((line) => line.startsWith(`| \`${name}\``));
    const told = [...(row ?? '').matchAll(/`(\w+)=(\w+)`/g)].map(([, setting, value]) => [setting, value]);
    assert.deepEqual(told, Object.entries(settings));
  });

test('what the environment sets stays, and the later of two presets goes before the earlier', () => {
  const config = readCoreConfig(
    withPresets({ BLATAM_PRESET: 'company, spikes', DATABASE_POOL: '3', COLD_MEMORY_MIB: '' }),
  );
  assert.deepEqual(config.BLATAM_PRESET, ['company', 'spikes']);
  assert.deepEqual(
    [config.DATABASE_POOL, config.CACHE_FLUSH_MIB, config.CACHE_PREFETCH, config.COLD_MEMORY_MIB, config.NONCES_MAX],
    [3, 512, 0, 2048, 2_000_000],
  );
  assert.deepEqual(readCoreConfig(withPresets({})), readCoreConfig({}));
});

test('a preset that there is not stops the start with one line', () => {
  for (const name of ['huge', 'team,huge', 'toString'])
    assert.throws(
      () => readCoreConfig(withPresets({ BLATAM_PRESET: name })),
      (error) => error instanceof SettingsError && /BLATAM_PRESET=.*single, team, company/.test(error.message),
    );
});
