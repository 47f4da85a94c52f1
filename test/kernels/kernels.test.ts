// How kernels are chosen, compiled, kept and run, on the software adapter from npm; and that the files in shaders/ are what
// the catalogue says of them.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import {
  type AnyDispatch,
  type BufferRange,
  choose,
  type DeviceLimits,
  entry,
  wantedOf,
} from '../../core/gpu/kernel-choice.ts';
import { compileModule } from '../../core/gpu/kernel-text.ts';
import { openKernels } from '../../core/gpu/kernels.ts';
import { requestKernelDevice } from '../../core/gpu/open-adapter.ts';
import { CATALOGUE, type KernelName, OPERATION } from '../../shaders/catalogue.ts';
import { parts } from '../../shaders/kernel.ts';
import * as references from '../../shaders/references.ts';
import { checksumSteps, reduceSteps } from '../../shaders/steps.ts';
import { assertSameBytes } from '../support/bytes.ts';
import { seeded } from '../support/seeded.ts';
import { openSource, workOn } from './adapters.ts';

const opened = await openSource('swiftshader');
if (typeof opened === 'string') throw new Error(opened);
const { device, errors } = opened;
after(() => {
  assert.deepEqual(errors, []);
  device.destroy();
});

const names = Object.keys(CATALOGUE) as KernelName[];
const isFile = (piece: unknown): piece is string => typeof piece === 'string';
const SHADERS = new URL('../../shaders/', import.meta.url);

describe('the catalogue', () => {
  test('names every file in shaders/, and no other', () => {
    const named = names.flatMap((name) => entry(name).variants.flatMap(({ files }) => files.filter(isFile)));
    const there = readdirSync(SHADERS).filter((file) => file.endsWith('.wgsl'));
    assert.deepEqual([...new Set(named)].sort(), there.sort());
  });

  test('has the bindings of its files, with their access', () => {
    for (const name of names)
      for (const { name: variant, files } of entry(name).variants) {
        const code = files
          .filter(isFile)
          .map((file) => readFileSync(new URL(file, SHADERS), 'utf8'))
          .join('');
        const found = [...code.matchAll(/@binding\((\d+)\) var<storage, (read|read_write)>/g)].map(([, at, access]) => [
          at,
          access,
        ]);
        const wanted = Object.values(entry(name).bindings).map(({ access }, at) => [
          `${at}`,
          access === 'read' ? 'read' : 'read_write',
        ]);
        assert.deepEqual(found, wanted, `${name} ${variant}`);
      }
  });

  test('has something for every adapter: a variant that needs nothing and avoids no software', () => {
    for (const name of names)
      assert.ok(
        entry(name).variants.some(({ requires, avoids, fits }) => !requires && !avoids && !fits),
        name,
      );
  });

  test('has a subgroup matrix product that compiles where there are such matrices', async () => {
    const { create } = await import('webgpu');
    const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await gpu.requestAdapter();
    assert.ok(adapter);
    const nowhere = await requestKernelDevice(adapter);
    const has = new Set(['subgroups', 'shader-f16', 'subgroup-matrix'] as const);
    const kernels = openKernels(nowhere, { has, immediates: true, timestamps: false, subgroupLanesMax: 32 });
    await kernels.prepare([{ kernel: 'matmul', element: 'f16', variant: 'subgroup-matrix' }]);
    nowhere.destroy();
    assert.ok(gpu);
  });
});

describe('choose()', () => {
  const gpu: DeviceLimits = {
    has: new Set(['subgroups', 'shader-f16', 'subgroup-matrix']),
    ...{ subgroupLanesMax: 32, invocationsMax: 1024, offsetAlignment: 256 },
  };
  const software: DeviceLimits = { ...gpu, has: new Set(['subgroups', 'shader-f16', 'software']) };
  const bare: DeviceLimits = { ...gpu, has: new Set(), subgroupLanesMax: 0 };
  const matmul = { kernel: 'matmul', element: 'f16' } as const;
  const ATTENDING = ['attentionScores', 'attentionValues'] as const;
  const square = { rows: 64, inner: 64, columns: 64 };

  test('takes subgroups on a GPU, barriers without them, neither on a software adapter', () => {
    const variants = [gpu, bare, software].map((limits) => choose({ kernel: 'hadamard' }, limits).variant.name);
    assert.deepEqual(variants, ['subgroup', 'workgroup', 'lane']);
  });

  test('takes matrices of subgroups where they are and the shape fits', () => {
    assert.equal(choose(matmul, gpu, square).variant.name, 'subgroup-matrix');
    assert.equal(choose(matmul, gpu, { ...square, rows: 65 }).variant.name, 'tiled');
    assert.equal(choose({ kernel: 'matmul' }, gpu, square).variant.name, 'tiled');
    assert.equal(choose(matmul, software, square).variant.name, 'lane-wide');
    assert.equal(choose(matmul, software, { ...square, inner: 3 }).variant.name, 'lane');
  });

  test('takes tiles for the lanes that subgroups have, and for many rows', () => {
    const variantFor = (rows: number, limits: DeviceLimits) =>
      ATTENDING.map((kernel) => choose({ kernel }, limits, { rows }).variant.name);
    for (const lanes of [4, 8])
      assert.deepEqual(variantFor(17, { ...software, subgroupLanesMax: lanes }), [`tile-${lanes}`, `tile-${lanes}`]);
    for (const limits of [bare, software]) assert.deepEqual(variantFor(17, limits), ['lane', 'lane']);
    assert.deepEqual(variantFor(16, { ...software, subgroupLanesMax: 4 }), ['lane', 'lane']);
  });

  test('keys a pipeline by name, variant, element and constants, whatever the shape', () => {
    const key = choose(matmul, software, square).key;
    assert.equal(choose(matmul, software, { rows: 8, inner: 4, columns: 12 }).key, key);
    assert.equal(key, 'matmul lane-wide f16 WORKGROUP=64');
    const largest = { kernel: 'reduce', constants: { OPERATION: OPERATION.max } } as const;
    assert.equal(choose(largest, software).key, 'reduce lane-wide f32 OPERATION=1 WORKGROUP=16');
  });

  test('refuses names that only look like kernels', () => {
    for (const kernel of ['toString', '__proto__', 'constructor'])
      assert.throws(() => choose({ kernel } as unknown as Parameters<typeof choose>[0], gpu), /there is no kernel/);
  });

  test('says why nothing can be taken', () => {
    const says = (message: RegExp, limits: DeviceLimits, wanted: Parameters<typeof choose>[0]) =>
      assert.throws(() => choose(wanted, limits), { message });
    says(/needs shader-f16, which this adapter lacks; unpack to f32/, bare, matmul);
    says(/no variant tensor; it has subgroup-matrix, tiled/, gpu, { ...matmul, variant: 'tensor' });
    says(/subgroup needs subgroups/, bare, { kernel: 'hadamard', variant: 'subgroup' });
    says(/multiple of the adapter's subgroups, 32, not 48/, gpu, {
      kernel: 'hadamard',
      variant: 'subgroup',
      tuning: { WORKGROUP: 48 },
    });
    const four: DeviceLimits = { ...software, subgroupLanesMax: 4 };
    says(/made for subgroups of 8 lanes, and the adapter's have 4/, four, {
      kernel: 'attentionScores',
      variant: 'tile-8',
    });
    says(/lane does not work with .*"DIM":80/, bare, { kernel: 'hadamard', constants: { BLOCK: 32, DIM: 80 } });
    says(/WORKGROUP=4096 exceeds the adapter's 1024/, gpu, { kernel: 'fill', tuning: { WORKGROUP: 4096 } });
  });
});

describe('wantedOf()', () => {
  test('reads a kernel, its constants and its element', () => {
    assert.deepEqual(wantedOf('copy'), { kernel: 'copy', constants: {} });
    assert.deepEqual(wantedOf('hadamard:BLOCK=64:f16'), {
      kernel: 'hadamard',
      constants: { BLOCK: 64 },
      element: 'f16',
    });
    for (const name of names) assert.equal(wantedOf(name).kernel, name);
  });

  test('says what is wrong', () => {
    assert.throws(() => wantedOf('hadamrad'), /there is no kernel hadamrad; there is fill/);
    assert.throws(() => wantedOf('hadamard:BLOCK'), /there is no kernel hadamard:BLOCK/);
    assert.throws(() => wantedOf(''), /there is no kernel/);
    assert.throws(() => wantedOf('hadamard:BLOK=64'), /hadamard has no constant BLOK; it has BLOCK/);
    assert.throws(() => wantedOf('copy:f16'), /copy is not made for f16, but for u32/);
  });
});

describe('run()', () => {
  const { kernels, bench } = workOn(opened);
  const fill = (target: BufferRange, words: number, value: number): AnyDispatch => ({
    ...{ kernel: 'fill', bindings: { target }, parameters: { words, value } },
  });
  const wordsOf = async (target: ReturnType<typeof bench.target>, count: number) => [
    ...new Uint32Array((await target.read(count * 4)).buffer),
  ];

  test('refuses what would reach outside a range, and says what to do', async () => {
    const target = bench.target(64);
    const refuses = (dispatch: AnyDispatch, message: RegExp) => assert.rejects(kernels.run([dispatch]), { message });
    await refuses(fill(target, 17, 0), /fill: binding target holds 64 bytes, and 80 will be touched/);
    await refuses(
      fill({ ...target, offset: 16 }, 1, 0),
      /begins at 16; on this adapter that has to be a multiple of 256/,
    );
    await refuses(fill({ ...target, size: 60 }, 1, 0), /make it a multiple of 16/);
    await refuses(fill({ ...target, size: 65_536 }, 1, 0), /ends at 65792, its buffer at 576/);
    await refuses(fill(target, 1.5, 0), /parameter words has to be u32, not 1.5/);
    await refuses(fill(target, 1, -1), /parameter value has to be u32, not -1/);
    assert.deepEqual(await wordsOf(target, 0), []);
  });

  test('refuses to read where it writes, and parameters that would need too many workgroups', async () => {
    const { buffer, size } = bench.target(1024);
    const copy = (source: BufferRange, target: BufferRange): AnyDispatch => ({
      ...{ kernel: 'copy', bindings: { source, target }, parameters: { words: 4 } },
    });
    const refused = kernels.run([copy({ buffer, offset: 0, size: 256 }, { buffer, offset: 512, size: 256 })]);
    await assert.rejects(refused, /source is read in the buffer that target is written in; use another buffer/);
    for (const offset of [-256, 0.5, Number.NaN])
      await assert.rejects(
        kernels.run([fill({ buffer, offset, size: 256 }, 1, 0)]),
        /have to be whole numbers|has to be/,
      );
    const empty = bench.target(16);
    const wide: AnyDispatch = {
      ...{ kernel: 'matmul', variant: 'tiled', parameters: { rows: 0, inner: 0, columns: 64 * 65_536 } },
      bindings: { left: empty, right: bench.source(new Uint8Array(16)), target: bench.target(16) },
    };
    await assert.rejects(kernels.run([wide]), /dispatch it in parts/);
    assert.ok(size >= 1024);
  });

  test('submit() takes what plan() gave, at once, with what belongs behind it', async () => {
    const [target, copy] = [bench.target(16), bench.target(16)];
    await kernels.prepare([{ kernel: 'fill' }]);
    const ready = kernels.plan([fill(target, 4, 7)]);
    assert.ok(!('then' in ready), 'what is compiled needs no wait');
    const { buffer, offset } = target;
    kernels.submit(ready, {
      after: (encoder) => encoder.copyBufferToBuffer(buffer, offset, copy.buffer, copy.offset, 16),
    });
    assert.deepEqual(await wordsOf(copy, 4), [7, 7, 7, 7]);
    const later = kernels.plan([{ ...fill(target, 1, 8), tuning: { WORKGROUP: 48 } } as AnyDispatch]);
    assert.ok('then' in later, 'what is not, does');
    kernels.submit(await later);
    assert.deepEqual(await wordsOf(target, 4), [8, 7, 7, 7]);
  });

  test('submits in the order of its calls, also when the first has to be compiled', async () => {
    const target = bench.target(16);
    await kernels.prepare([{ kernel: 'fill' }]);
    const slow = kernels.run([{ ...fill(target, 4, 1), tuning: { WORKGROUP: 96 } } as AnyDispatch]);
    const quick = kernels.run([fill(target, 2, 2)]);
    await Promise.all([slow, quick]);
    assert.deepEqual(await wordsOf(target, 4), [2, 2, 1, 1]);
  });

  test('goes on after a list that could not be run', async () => {
    const target = bench.target(16);
    const bad = kernels.run([fill(target, 1, 5), { ...fill(target, 4, 1), kernel: 'none' } as unknown as AnyDispatch]);
    await assert.rejects(bad, { message: /there is no kernel none; there is fill, copy/ });
    await kernels.run([fill(target, 1, 3)]);
    assert.deepEqual(await wordsOf(target, 1), [3]);
  });

  test('runs 500 dispatches in one pass, each after the one before, with one pipeline and one bind group', async () => {
    const fresh = workOn(opened);
    const target = bench.target(16);
    await fresh.kernels.run(Array.from({ length: 500 }, (_, i) => fill(target, 1, i)));
    assert.deepEqual(await wordsOf(target, 1), [499]);
    assert.deepEqual(fresh.kernels.report(), { pipelines: 1, bindGroups: 1 });
    fresh.kernels.forget(target.buffer);
    assert.deepEqual(fresh.kernels.report(), { pipelines: 1, bindGroups: 0 });
  });

  test('keeps no more pipelines and bind groups than it may', async () => {
    const few = openKernels(device, opened.capabilities, { pipelinesMax: 2, bindGroupsMax: 3 });
    const targets = Array.from({ length: 5 }, () => bench.target(16));
    await few.run(targets.map((target) => fill(target, 1, 9)));
    for (const WORKGROUP of [32, 64, 128]) await few.prepare([{ kernel: 'fill', tuning: { WORKGROUP } }]);
    assert.deepEqual(few.report(), { pipelines: 2, bindGroups: 3 });
    for (const target of targets) assert.deepEqual(await wordsOf(target, 1), [9]);
  });

  test('does the same where parameters go by a uniform buffer', async () => {
    const uniform = workOn(opened, { immediates: false });
    const seed = seeded();
    for (const count of [1, 3, 200]) {
      const targets = Array.from({ length: count }, () => bench.target(16));
      const values = targets.map(() => seed.below(2 ** 32));
      await uniform.kernels.run(targets.map((target, i) => fill(target, 3, values[i] ?? 0)));
      for (const [i, target] of targets.entries())
        assert.deepEqual(await wordsOf(target, 3), Array(3).fill(values[i]), `SEED=${seed.seed}`);
    }
  });

  test('tells how long the adapter worked, where it can', async () => {
    const target = bench.target(1 << 20);
    const ms = await kernels.run([fill(target, 1 << 18, 1)], { timed: true });
    assert.ok(ms !== undefined && ms >= 0 && ms < 60_000, String(ms));
    const blind = workOn(opened, { timestamps: false });
    assert.equal(await blind.kernels.run([fill(target, 1, 1)], { timed: true }), undefined);
  });

  test('warms up in the background, and says later what does not compile', async () => {
    const warm = openKernels(device, opened.capabilities, { warm: [{ kernel: 'fill' }, { kernel: 'copy' }] });
    assert.equal(warm.report().pipelines, 2);
    const text = { code: 'fn f() {\n let x = 1 +; }', place: (line: number) => `planted.wgsl:${line}` };
    await assert.rejects(compileModule(device, 'planted', text), {
      message: /^planted does not compile: planted.wgsl:2:\d+ /,
    });
  });
});

describe('the levels of', () => {
  const { kernels, bench } = workOn(opened);

  test('checksum give what the reference gives, for any length', async () => {
    const seed = seeded();
    for (const length of [0, 1, 16, 17, 4096, 65_536, 65_537, 1_000_003]) {
      const bytes = seed.bytes(length);
      const steps = checksumSteps(length);
      const targets = steps.map(({ streams }) => bench.target(streams * 16));
      let source = bench.source(bytes);
      const dispatches = steps.map((parameters, i): AnyDispatch => {
        const target = targets[i] ?? bench.target(0);
        const bindings = { source, target };
        source = target;
        return { kernel: 'checksum', bindings, parameters: { ...parameters } };
      });
      await kernels.run(dispatches);
      const got = await targets.at(-1)?.read(16);
      assertSameBytes(
        got ?? new Uint8Array(0),
        new Uint8Array(references.checksum(bytes).buffer, 0, 16),
        `${length} bytes`,
      );
    }
  });

  test('reduce fold any number of values into one', async () => {
    const values = Float32Array.from({ length: 300_001 }, (_, i) => (i % 17) - 8);
    const steps = reduceSteps(values.length, 64);
    let source = bench.source(values);
    let target = bench.target(0);
    const dispatches = steps.map(({ length, span }): AnyDispatch => {
      target = bench.target(parts(length, span) * 4);
      const bindings = { source, target };
      source = target;
      return { kernel: 'reduce', bindings, parameters: { length, span } };
    });
    await kernels.run(dispatches);
    const [sum] = new Float32Array((await target.read(4)).buffer);
    assert.equal(steps.length, 4);
    assert.equal(sum, references.reduce(values, values.length, OPERATION.sum)[0]); // whole numbers: exact
  });
});
