// Every kernel against its reference on one adapter: every variant that it can take, also those that it would not choose,
// ragged sizes, robustness on and off; several workgroup sizes where constants and element are the usual ones, as every
// combination is another pipeline to compile. Then devices with less than the adapter has, without f16, without subgroups,
// with nothing: what is chosen there, as on a GPU without immediates and as on a software adapter. What ran is told as diagnostics.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type AnyWanted, entry, KernelError } from '../../core/gpu/kernel-choice.ts';
import { CATALOGUE, type KernelName } from '../../shaders/catalogue.ts';
import type { Capability } from '../../shaders/kernel.ts';
import { seeded } from '../support/seeded.ts';
import { type Opened, openSource, type Source, workOn } from './adapters.ts';
import { bytesExpected, CASES, type Case, dispatchOf, faultOf, targetOf, wantedBy } from './cases.ts';
import type { Target, Workbench } from './workbench.ts';

const WORKGROUPS = [32, 256];
const LESS: readonly GPUFeatureName[] = ['subgroups', 'shader-f16'];
const LESSER: readonly (readonly GPUFeatureName[])[] = [[], ['subgroups'], ['shader-f16']];
/** Of each variant that is chosen on lesser devices: every size, with all constants, was tried on the whole adapter. */
const CASES_MAX = 2;

type Work = ReturnType<typeof workOn>;
const NAMES = Object.keys(CATALOGUE) as KernelName[];

export async function testKernelsOn(source: Source): Promise<void> {
  for (const robustness of [true, false]) {
    const opened = await openSource(source, { robustness, unsafeApis: true });
    const where = `${source}, robustness ${robustness ? 'on' : 'off'}`;
    if (typeof opened === 'string') {
      test(where, { skip: opened }, () => {});
      return;
    }
    test(`${where}: the adapter`, (t) => {
      t.diagnostic(`${opened.name}: ${[...opened.capabilities.has].join(', ')}`);
      for (const missing of ['shader-f16', 'subgroup-matrix'] as const)
        if (!opened.capabilities.has.has(missing))
          t.diagnostic(`not tested here, for want of ${missing}: its variants`);
    });
    for (const kernel of NAMES) testKernel(where, opened, kernel, robustness);
    after(() => opened.device.destroy());
    if (robustness) continue;
    for (const features of LESSER) await testLesser(source, opened, features);
  }
}

async function testLesser(source: Source, whole: Opened, features: readonly GPUFeatureName[]): Promise<void> {
  const where = `${source} with ${features.join() || 'no features'}`;
  const lacks = features.filter((name) => !whole.device.features.has(name));
  if (lacks.length > 0) return void test(where, { skip: `the adapter has no ${lacks.join()}` }, () => {});
  if (LESS.every((name) => features.includes(name) || !whole.device.features.has(name))) return; // that is the whole adapter
  const opened = await openSource(source, { features });
  if (typeof opened === 'string') throw new Error(opened);
  test(`${where}: what is chosen gives what its reference gives`, async (t) => {
    t.after(() => opened.device.destroy());
    const has = new Set(opened.capabilities.has);
    has.delete('software');
    assert.deepEqual([...has].sort(), [...features].sort());
    const gpu = workOn(opened, { has, immediates: false });
    const software = workOn(opened, { has: new Set<Capability>([...has, 'software']) });
    const chosen = new Map<string, number>();
    for (const kernel of NAMES)
      for (const each of CASES[kernel](seeded()))
        if (each.element !== 'f16' || has.has('shader-f16'))
          for (const [as, work] of Object.entries({ gpu, software })) await runChosen(as, work, each, chosen);
    assert.deepEqual(opened.errors, []);
    t.diagnostic([...chosen.keys()].join(', '));
  });
}

/** Without a word on the variant. */
async function runChosen(as: string, { kernels, bench }: Work, each: Case, chosen: Map<string, number>): Promise<void> {
  const { kernel, element, constants } = each;
  const wanted = { kernel, element, constants } as AnyWanted;
  const target = bench.target(bytesExpected(each), each.initial);
  const sources = Object.entries(each.sources).map(([name, data]) => [name, bench.source(data)]);
  const dispatch = dispatchOf(wanted, each, { ...Object.fromEntries(sources), [targetOf(each)]: target });
  const key = `${as}: ${kernel} ${kernels.variantOf(dispatch)} ${element}`;
  const times = chosen.get(key) ?? 0;
  if (times < CASES_MAX) {
    chosen.set(key, times + 1);
    await kernels.run([dispatch]);
    const fault = faultOf(each, await target.read(bytesExpected(each)));
    assert.equal(fault, undefined, `${each.name}, ${key}`);
  }
  for (const buffer of bench.made()) kernels.forget(buffer);
  bench.clear();
}

function testKernel(where: string, opened: Opened, kernel: KernelName, thorough: boolean): void {
  test(`${where}: ${kernel} gives what its reference gives`, async (t) => {
    const { kernels, bench } = workOn(opened);
    const seed = seeded();
    const ran = new Map<string, number>();
    for (const each of CASES[kernel](seed)) {
      if (each.element === 'f16' && !opened.capabilities.has.has('shader-f16')) continue;
      const isUsual = isDeepStrictEqual(each.constants, entry(kernel).constants) && each.element !== 'f16';
      if (!isUsual && !thorough && entry(kernel).elements.length > 1) continue;
      const trials = trialsOf(each, bench, thorough && isUsual ? WORKGROUPS : [undefined]);
      const able = trials.filter(({ dispatch }) => {
        try {
          return kernels.variantOf(dispatch);
        } catch (error) {
          assert.ok(error instanceof KernelError, String(error));
          return undefined;
        }
      });
      assert.ok(able.length > 0, `${each.name}: no variant takes it`);
      await kernels.run(able.map(({ dispatch }) => dispatch));
      for (const { wanted, target } of able) {
        const fault = faultOf(each, await target.read(bytesExpected(each)));
        assert.equal(fault, undefined, `${each.name}, ${JSON.stringify(wanted)}, SEED=${seed.seed}`);
        const name = `${wanted.variant} ${each.element}`;
        ran.set(name, (ran.get(name) ?? 0) + 1);
      }
      for (const buffer of bench.made()) kernels.forget(buffer);
      bench.clear();
    }
    assert.deepEqual(opened.errors, []);
    t.diagnostic([...ran].map(([name, times]) => `${name} x ${times}`).join(', '));
  });
}

/** Every variant with every workgroup size; those that cannot be are sorted out by whoever runs them. */
function trialsOf(each: Case, bench: Workbench, workgroups: readonly (number | undefined)[]) {
  const sources = Object.fromEntries(Object.entries(each.sources).map(([name, data]) => [name, bench.source(data)]));
  return entry(each.kernel).variants.flatMap(({ name }) =>
    workgroups.map((WORKGROUP) => {
      const target: Target = bench.target(bytesExpected(each), each.initial);
      const wanted: AnyWanted = wantedBy(each, name, WORKGROUP === undefined ? {} : { WORKGROUP });
      return { wanted, target, dispatch: dispatchOf(wanted, each, { ...sources, [targetOf(each)]: target }) };
    }),
  );
}
