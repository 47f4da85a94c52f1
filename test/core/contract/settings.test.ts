// Settings: what is unset has its default, what is malformed stops the start in one line, and no secret is in that line.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  choice,
  describeSettings,
  integer,
  list,
  optionalText,
  readSettings,
  refuseUnknown,
  SettingsError,
  secret,
  setting,
  text,
} from '../../../core/contract/settings.ts';

const settings = {
  HOST: setting(text, '127.0.0.1', 'where to listen'),
  CORE_PORT: setting(integer(0, 65_535), '8002', 'the port'),
  GPU_PIECES: setting(integer(8, 1024), '32', 'how many'),
  GPU_TRANSPORT: setting(choice(['ring', 'socket']), 'ring', 'how'),
  GPU_ADAPTERS: setting(list, 'auto', 'which'),
  METRICS_TOKEN: setting(optionalText, '', 'who'),
  MASTER_KEY: setting(secret(4), '', 'the secret'),
};

/** The one line that reading says, which must not hold `never`. */
function fault(environment: Record<string, string>, never?: string): string {
  let line = '';
  assert.throws(
    () => readSettings(settings, environment),
    (thrown) => {
      assert.ok(thrown instanceof SettingsError);
      line = thrown.message;
      return true;
    },
  );
  if (never) assert.ok(!line.includes(never), line);
  return line;
}

test('readSettings() gives defaults for what is unset or empty', () => {
  const defaults = {
    HOST: '127.0.0.1',
    CORE_PORT: 8002,
    GPU_PIECES: 32,
    GPU_TRANSPORT: 'ring',
    GPU_ADAPTERS: ['auto'],
    METRICS_TOKEN: undefined,
    MASTER_KEY: undefined,
  };
  assert.deepEqual(readSettings(settings, {}), defaults);
  assert.deepEqual(readSettings(settings, { HOST: '', CORE_PORT: '', MASTER_KEY: '', GPU_ADAPTERS: '' }), defaults);
});

test('readSettings() gives typed values, frozen, and nothing else of the environment', () => {
  const values = readSettings(settings, {
    HOST: '::1',
    CORE_PORT: '0',
    GPU_PIECES: '1024',
    GPU_TRANSPORT: 'socket',
    GPU_ADAPTERS: ' system , swiftshader,, ',
    METRICS_TOKEN: 't',
    MASTER_KEY: 'AAECAw==',
    PATH: '/bin',
  });
  assert.deepEqual(values, {
    HOST: '::1',
    CORE_PORT: 0,
    GPU_PIECES: 1024,
    GPU_TRANSPORT: 'socket',
    GPU_ADAPTERS: ['system', 'swiftshader'],
    METRICS_TOKEN: 't',
    MASTER_KEY: Uint8Array.of(0, 1, 2, 3),
  });
  assert.ok(Object.isFrozen(values));
});

test('integer() takes digits within its bounds', () => {
  for (const bad of ['7', '1025', '-8', '+8', '8.0', '1e2', '0x10', ' 8', '8 ', '8\n', 'eight', '9'.repeat(400)])
    assert.match(
      fault({ GPU_PIECES: bad }),
      /^GPU_PIECES=.*: must be (?:a whole number|from 8 to 1024)\. See npm start/s,
    );
});

test('integer() refuses a port beyond 65535', () => {
  assert.equal(readSettings(settings, { CORE_PORT: '65535' }).CORE_PORT, 65_535);
  assert.equal(fault({ CORE_PORT: '65536' }), 'CORE_PORT=65536: must be from 0 to 65535. See npm start -- --help');
});

test('choice() names the choices', () => {
  assert.match(fault({ GPU_TRANSPORT: 'Ring' }), /^GPU_TRANSPORT=Ring: must be one of ring, socket/);
});

test('secret() wants base64 of enough bytes, and is never repeated', () => {
  for (const bad of ['AAEC', 'not base64!', 'AAECAw=', 'é'])
    assert.match(fault({ MASTER_KEY: bad }, bad), /^MASTER_KEY=…: must be base64 of at least 4 bytes/);
});

test('a long value is cut in the message', () => {
  assert.ok(fault({ GPU_TRANSPORT: 'x'.repeat(10_000) }).length < 250);
});

const refusal = (environment: Record<string, string>): string => {
  try {
    refuseUnknown(Object.keys(settings), environment);
  } catch (error) {
    assert.ok(error instanceof SettingsError);
    return error.message;
  }
  return '';
};

test('refuseUnknown() lets everything be that is not meant for us', () => {
  const others = { PATH: '/bin', HOME: '/', HOSTNAME: 'x', LANG: 'C', POST: 'x', GPU_DEVICE_ORDINAL: '0', PORT: '1' };
  assert.equal(refusal({ HOST: 'x', CORE_PORT: '1', ...others }), '');
});

test('refuseUnknown() finds a misspelt name, and says which was meant', () => {
  for (const name of ['GPU_PIECE', 'GPU_PEICES', 'GPU_PIECESS', 'GPU_PICES', 'CORE_PROT', 'CORE_PORTS', 'MASTER_KEI'])
    assert.match(refusal({ [name]: '1' }), new RegExp(`^${name} is set, but .*; did you mean [A-Z_]+\\?$`));
  assert.match(refusal({ GPU_PEICES: '1' }), /did you mean GPU_PIECES\?/);
});

test('refuseUnknown() finds an unknown name with a prefix of ours', () => {
  for (const name of ['BLATAM_SOMETHING', 'EDGE_SOMETHING', 'CORE_SOMETHING'])
    assert.equal(refusal({ [name]: '' }), `${name} is set, but there is no such setting. See npm start -- --help`);
  assert.equal(refusal({ MY_CORE_SOMETHING: '1' }), '');
});

test('describeSettings() has a line for each, with its default', () => {
  const lines = describeSettings(settings).split('\n');
  assert.equal(lines.length, Object.keys(settings).length);
  assert.match(lines[1] ?? '', /^ {2}CORE_PORT=8002 +the port$/);
  assert.equal(describeSettings({}), '');
});
