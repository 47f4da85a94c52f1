// One adapter's process in the codec benchmark: opens it, makes records of seeded vectors by the kernels, compares them and what
// comes back with the CPU references, then measures codecs and copy in turns and writes one line of JSON. Settings come in
// argv; which adapter it is, the environment decides.
import { openKernels } from '../../core/gpu/kernels.ts';
import {
  adapterName,
  capabilitiesOf,
  isSoftware,
  openAdapter,
  requestKernelDevice,
} from '../../core/gpu/open-adapter.ts';
import { hurry, paceGpuPolling } from '../../core/gpu/pace.ts';
import { codecSubjects, copySubjects } from './codec-subjects.ts';
import type { CodecTime, CodecTimesResult, CodecTimesSettings } from './codec-times.ts';
import { createDesk, type Desk } from './kernel-subjects.ts';
import { WrongAnswer } from './report.ts';
import { takeTurns } from './rounds.ts';
import { median } from './statistics.ts';
import type { TimedSubject } from './timed-subject.ts';

/** Large enough not to lie in a cache of its adapter, small enough for a software adapter's patience. */
const VECTORS = 1 << 18;
const VECTORS_SOFTWARE = 1 << 14;
const VECTORS_QUICK = 1 << 12;
/** Long enough that waiting for its end, a millisecond at worst, does not matter. */
const SAMPLE_MS = 50;
const DISPATCHES_MAX = 200;
const ROUNDS = 15;
const ROUNDS_QUICK = 3;

const settings = JSON.parse(process.argv[2] ?? '{}') as CodecTimesSettings;
paceGpuPolling();
const say = (result: CodecTimesResult) => process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

const adapter = await openAdapter({ loader: settings.loader });
if (!adapter) say({ missing: 'no adapter' });
else
  await measureAll(adapter).then(say, (error: unknown) =>
    say({ failed: error instanceof Error ? (error.stack ?? '') : String(error), wrong: error instanceof WrongAnswer }),
  );

async function measureAll(adapter: GPUAdapter): Promise<CodecTimesResult> {
  const device = await requestKernelDevice(adapter);
  const errors: string[] = [];
  device.onuncapturederror = ({ error }) => errors.push(error.message);
  const desk = createDesk(device, openKernels(device, capabilitiesOf(adapter, device)));
  const vectors = settings.quick ? VECTORS_QUICK : isSoftware(adapter) ? VECTORS_SOFTWARE : VECTORS;
  const subjects = [...copySubjects(desk, vectors), ...(await codecSubjects(desk, vectors))];
  const times = await measure(desk, subjects);
  if (errors.length > 0) throw new WrongAnswer(errors.join('; '));
  return { adapter: adapterName(adapter), description: adapter.info.description, times };
}

async function measure(desk: Desk, subjects: readonly TimedSubject[]): Promise<CodecTime[]> {
  const rivals = [];
  for (const subject of subjects) {
    await time(desk, subject, 1); // compiles
    const once = await time(desk, subject, 1);
    const times = Math.max(1, Math.min(DISPATCHES_MAX, Math.round(SAMPLE_MS / once)));
    rivals.push({ name: subject.name, pids: [], run: () => time(desk, subject, times) });
  }
  const measured = await takeTurns({ rounds: settings.quick ? ROUNDS_QUICK : ROUNDS, begin: () => {}, rivals });
  const all = subjects.map(({ name, variant, plainBytes }, i) => ({
    ...{ name, variant, plainBytes, ms: measured[i]?.ms ?? [] },
  }));
  const copies = all.filter(({ name }) => name === 'copy').sort((a, b) => median(a.ms) - median(b.ms));
  return [...copies.slice(0, 1), ...all.filter(({ name }) => name !== 'copy')];
}

async function time({ device, kernels }: Desk, subject: TimedSubject, times: number): Promise<number> {
  const began = performance.now();
  hurry();
  await kernels.run(Array(times).fill(subject.dispatches).flat());
  await device.queue.onSubmittedWorkDone();
  return (performance.now() - began) / times;
}
