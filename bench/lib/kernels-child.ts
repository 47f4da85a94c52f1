// One adapter's process in the kernel benchmark: opens it, checks every answer, then measures all in turns and writes one
// line of JSON. Settings come in argv; which adapter it is, the environment decides.
import { openKernels } from '../../core/gpu/kernels.ts';
import {
  adapterName,
  capabilitiesOf,
  isSoftware,
  openAdapter,
  requestKernelDevice,
} from '../../core/gpu/open-adapter.ts';
import { hurry, paceGpuPolling } from '../../core/gpu/pace.ts';
import { matmul } from '../../shaders/references.ts';
import { createDesk, type Desk, type KernelSubject, matmulSubjects, streamingSubjects } from './kernel-subjects.ts';
import { type ChildResult, type ChildSettings, type KernelTimes, PEER_ANSWERED, PEER_ASKED } from './kernel-times.ts';
import { openPeer, type Peer } from './onnx.ts';
import { WrongAnswer } from './report.ts';
import { type Rival, takeTurns } from './rounds.ts';

const GPU_BYTES = 256 << 20;
const SOFTWARE_BYTES = 8 << 20;
/** Long enough that waiting for its end, a millisecond at worst, does not matter. */
const SAMPLE_MS = 50;
const PEER_SIZE = 1024;

const settings = JSON.parse(process.argv[2] ?? '{}') as ChildSettings;
paceGpuPolling();
const say = (result: ChildResult) => process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());

const adapter = await openAdapter({ loader: settings.loader, robustness: settings.robustness, unsafeApis: true });
if (!adapter) say({ missing: 'no adapter' });
else
  await measureAll(adapter).then(say, (error: unknown) =>
    say({ failed: String(error), wrong: error instanceof WrongAnswer }),
  );

async function measureAll(adapter: GPUAdapter): Promise<ChildResult> {
  const device = await requestKernelDevice(adapter);
  const capabilities = capabilitiesOf(adapter, device);
  const errors: string[] = [];
  device.onuncapturederror = ({ error }) => errors.push(error.message);
  const desk = createDesk(device, openKernels(device, capabilities));
  const software = isSoftware(adapter);
  const bytes = Math.min(software ? SOFTWARE_BYTES : GPU_BYTES, device.limits.maxStorageBufferBindingSize);
  const elements = capabilities.has.has('shader-f16') ? (['f32', 'f16'] as const) : (['f32'] as const);

  const times = await measure(desk, [...streamingSubjects(desk, bytes), plainCopy(desk, bytes)], settings.rounds);
  for (const element of elements)
    times.push(...(await measure(desk, matmulSubjects(desk, 256, element, false).subjects, settings.rounds)));
  const { subjects, left, right } = matmulSubjects(desk, PEER_SIZE, 'f32', software);
  const peer = settings.peer ? await invitePeer(left, right) : 'left out';
  const rounds = software ? Math.min(settings.rounds, 5) : settings.rounds;
  times.push(...(await measure(desk, subjects, rounds, typeof peer === 'string' ? [] : [peerRival(peer)])));
  if (elements[1])
    times.push(...(await measure(desk, matmulSubjects(desk, PEER_SIZE, 'f16', software).subjects, rounds)));
  if (!software)
    for (const element of elements)
      times.push(...(await measure(desk, matmulSubjects(desk, 4096, element, true).subjects, rounds)));
  if (errors.length > 0) throw new WrongAnswer(errors.join('; '));
  const has = [...capabilities.has];
  return {
    adapter: adapterName(adapter),
    description: adapter.info.description,
    software,
    has,
    times,
    peer: typeof peer === 'string' ? peer : `onnxruntime-node ${peer.version}`,
  };
}

async function measure(
  desk: Desk,
  subjects: readonly KernelSubject[],
  rounds: number,
  others: readonly Rival<void>[] = [],
) {
  const rivals: Rival<void>[] = [...others];
  for (const subject of subjects) {
    await subject.check();
    const once = await time(desk, subject, 1);
    const times = Math.max(1, Math.min(500, Math.round(SAMPLE_MS / once)));
    rivals.push({ name: subject.name, pids: [], run: () => time(desk, subject, times) });
  }
  const measured = await takeTurns({ rounds, begin: () => {}, rivals });
  return measured.map(({ name, ms }): KernelTimes => {
    const subject = subjects.find((each) => each.name === name);
    const {
      kernel = 'onnxruntime',
      isChosen = false,
      element = 'f32',
      size = PEER_SIZE,
      bytes,
      flops,
    } = subject ?? { flops: 2 * PEER_SIZE ** 3 };
    return {
      name: `${name}${kernel === 'matmul' ? ` ${element}` : ''}`,
      kernel,
      isChosen,
      element,
      size,
      bytes: bytes ?? null,
      flops: flops ?? null,
      ms,
    };
  });
}

async function time({ device, kernels }: Desk, subject: KernelSubject, times: number): Promise<number> {
  const began = performance.now();
  hurry();
  if (subject.kernel === 'copyBufferToBuffer') await subject.check();
  else await kernels.run(subject.encode(times));
  await device.queue.onSubmittedWorkDone();
  return (performance.now() - began) / (subject.kernel === 'copyBufferToBuffer' ? 1 : times);
}

/** What the adapter's own copy does, without a kernel. */
function plainCopy(desk: Desk, size: number): KernelSubject {
  const [source, target] = [desk.buffer(size), desk.buffer(size)];
  return {
    ...{
      name: 'copyBufferToBuffer',
      kernel: 'copyBufferToBuffer',
      isChosen: false,
      size,
      element: 'u32',
      bytes: 2 * size,
    },
    encode: () => [],
    async check() {
      const encoder = desk.device.createCommandEncoder();
      encoder.copyBufferToBuffer(source.buffer, 0, target.buffer, 0, size);
      desk.device.queue.submit([encoder.finish()]);
    },
  };
}

function peerRival(peer: Peer): Rival<void> {
  return {
    ...{ name: `onnxruntime ${PEER_SIZE}`, pids: [] },
    async run() {
      const began = performance.now();
      await peer.run();
      return (performance.now() - began) / peer.links;
    },
  };
}

/** Asked once before it is measured; on some adapters it never answers, so the parent has a watch on it. */
async function invitePeer(left: Float32Array, right: Float32Array): Promise<Peer | string> {
  process.stdout.write(`${PEER_ASKED}\n`);
  const peer = await openPeer(settings.peerFolder, left, right, PEER_SIZE);
  if (typeof peer !== 'string') await checkPeer(peer, left, right);
  process.stdout.write(`${PEER_ANSWERED}\n`);
  return peer;
}

async function checkPeer(peer: Peer, left: Float32Array, right: Float32Array): Promise<void> {
  const got = await peer.run();
  let row: ArrayLike<number> = left.subarray(0, PEER_SIZE);
  for (let i = 0; i < peer.links; i++) row = matmul(row, right, { rows: 1, inner: PEER_SIZE, columns: PEER_SIZE });
  for (let i = 0; i < PEER_SIZE; i++)
    if (Math.abs((got[i] ?? Number.NaN) - (row[i] ?? 0)) > 1e-3)
      throw new WrongAnswer(`onnxruntime: ${got[i]}, not ${row[i]}`);
}
