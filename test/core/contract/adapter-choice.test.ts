// Entries of GPU_ADAPTERS: what is understood, what is refused, and what it makes of an adapter's process.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readCoreConfig } from '../../../core/config.ts';
import { parseAdapter } from '../../../core/contract/adapter-choice.ts';
import { candidate } from '../../../core/gpu/adapters.ts';

test('parseAdapter() understands sources, names and slots', () => {
  assert.deepEqual(parseAdapter('system'), { source: 'system' });
  assert.deepEqual(parseAdapter('swiftshader?name=Swift'), { source: 'swiftshader', name: 'Swift' });
  assert.deepEqual(parseAdapter('/a/icd.json?pci=0000:C1:00.7&name=Radeon+RX%2C+7'), {
    source: '/a/icd.json',
    pci: '0000:c1:00.7',
    name: 'Radeon RX, 7',
  });
});

for (const [entry, why] of [
  ['auto', /no system, no swiftshader and no path/],
  ['relative/icd.json', /no path that begins with \//],
  ['', /no system/],
  ['system?', undefined],
  ['system?nam=x', /asks for nam; name and pci are known/],
  ['system?name=', /must have name once, and with a value/],
  ['system?name=a&name=b', /must have name once/],
  ['system?name=a?pci=b', /second \?; join name and pci by &/],
  ['system?pci=01:00.0', /a slot is written like 0000:01:00\.0/],
  ['system?pci=0000:01:00.8', /a slot is written like/],
  ['swiftshader?pci=0000:01:00.0', /swiftshader is in no slot/],
] as const)
  test(`parseAdapter('${entry}') ${why ? 'says what is wrong' : 'asks for nothing'}`, () => {
    if (why) assert.throws(() => parseAdapter(entry), why);
    else assert.deepEqual(parseAdapter(entry), { source: 'system' });
  });

test('GPU_ADAPTERS is auto, or a list in which an entry may stand twice; else the start ends in one line', () => {
  const read = (GPU_ADAPTERS: string) => readCoreConfig({ GPU_ADAPTERS }).GPU_ADAPTERS;
  assert.deepEqual(read('auto'), ['auto']);
  assert.deepEqual(read('system?name=a%2Cb, system?name=a%2Cb,/x'), ['system?name=a%2Cb', 'system?name=a%2Cb', '/x']);
  for (const value of ['auto,system', 'cuda', 'system?gpu=1', 'system?pci=1', ','])
    assert.throws(
      () => read(value),
      /^Error: GPU_ADAPTERS=.*: must be auto, or a list of system, swiftshader and paths[^\n]*$/,
    );
  assert.throws(() => read('system?gpu=1'), /system\?gpu=1 asks for gpu; name and pci are known/);
});

test('candidate() asks by name of the adapter, and by slot of its environment', () => {
  assert.deepEqual(candidate('system?name=GeForce', '/nowhere'), {
    name: 'system?name=GeForce',
    environment: {},
    adapter: 'GeForce',
  });
  assert.deepEqual(candidate('/a/icd.json?pci=0000:c1:00.0', '/nowhere').environment, {
    VK_DRIVER_FILES: '/a/icd.json',
    VK_ICD_FILENAMES: '/a/icd.json',
    DRI_PRIME: 'pci-0000_c1_00_0',
    MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: '1',
  });
});
