// Every kernel against its reference on one adapter: every variant that it can take, also those that it would not choose,
// ragged sizes, robustness on and off; several workgroup sizes where constants and element are the usual ones, as every
// combination is another pipeline to compile. What ran is told as diagnostics.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type AnyWanted, entry, KernelError } from '../../core/gpu/kernel-choice.ts';
import { CATALOGUE, type KernelName } from '../../shaders/catalogue.ts';
import { seeded } from '../support/seeded.ts';
import { type Opened, openSource, type Source, workOn } from './adapters.ts';
import { bytesExpected, CASES, type Case, dispatchOf, faultOf, targetOf, wantedBy } from './cases.ts';
import type { Target, Workbench } from './workbench.ts';

const WORKGROUPS = [32, 256];

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
    for (const kernel of Object.keys(CATALOGUE) as KernelName[]) testKernel(where, opened, kernel, robustness);
    after(() => opened.device.destroy());
  }
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
