// Kernels on one device: pipelines compiled in the background and kept, bind groups kept, lists of dispatches run in one
// pass and one submit, in the order in which `run` was called. Who needs more than dispatches in a submit, or an order of
// his own, takes `plan` (checked and compiled) and `submit` (at once). A pipeline's key is name, variant, element and constants,
// never shapes or offsets. Ranges are checked against the catalogue before anything is encoded. Both caches are bounded,
// the least recently used going first. Buffers stay the caller's; one that is destroyed is to be `forget`ten.
import type { KernelName } from '../../shaders/catalogue.ts';
import {
  type AnyDispatch,
  type AnyWanted,
  type BufferRange,
  type Choice,
  checkDispatch,
  choose,
  type DeviceLimits,
  entry,
  KernelError,
  workgroupsOf,
} from './kernel-choice.ts';
import { compileModule, composeText } from './kernel-text.ts';
import type { AdapterCapabilities } from './open-adapter.ts';

const UNIFORM_STRIDE = 256;
const PARAMETER_BYTES = 64;

export interface KernelsOptions {
  /** Compiled at once, in the background. */
  readonly warm?: readonly AnyWanted[];
  /** Default 256. */
  readonly pipelinesMax?: number;
  /** Default 4096. */
  readonly bindGroupsMax?: number;
}

export interface RunOptions {
  /** Wait for the end and tell how long the adapter worked; undefined where it has no timestamps. */
  readonly timed?: boolean;
}

/** A checked list of dispatches with its pipelines: nothing is left that could fail. */
export interface Plan {
  readonly dispatches: readonly AnyDispatch[];
  readonly steps: readonly Step[];
}

interface Step {
  readonly pipeline: GPUComputePipeline;
  readonly workgroups: readonly [number, number];
}

export interface SubmitOptions extends RunOptions {
  /** Encodes what belongs into the same submit, behind the pass. */
  readonly after?: (encoder: GPUCommandEncoder) => void;
}

/** How long the pass of a submit took, once it is done. */
export interface Stopwatch {
  read(): Promise<number>;
}

export interface Kernels {
  /** Compiles what is not there yet. */
  prepare(wanted: readonly AnyWanted[]): Promise<void>;
  /** One pass, one submit; resolves once it is submitted, or once it is done if it is timed. */
  run(dispatches: readonly AnyDispatch[], options?: RunOptions): Promise<number | undefined>;
  /** Throws what is wrong with a list; a promise only where something has to be compiled. */
  plan(dispatches: readonly AnyDispatch[]): Plan | Promise<Plan>;
  /** Encodes and submits, at once; a stopwatch where one is asked for and the adapter has timestamps. */
  submit(plan: Plan, options?: SubmitOptions): Stopwatch | undefined;
  /** The variant that a dispatch would take here. */
  variantOf(dispatch: AnyDispatch): string;
  /** Lets go of every bind group with this buffer. */
  forget(buffer: GPUBuffer): void;
  report(): { readonly pipelines: number; readonly bindGroups: number };
}

interface Compiling {
  readonly made: Promise<GPUComputePipeline>;
  pipeline?: GPUComputePipeline;
}

export function openKernels(
  device: GPUDevice,
  capabilities: AdapterCapabilities,
  { warm = [], pipelinesMax = 256, bindGroupsMax = 4096 }: KernelsOptions = {},
): Kernels {
  const limits: DeviceLimits = {
    has: capabilities.has,
    subgroupLanesMax: capabilities.subgroupLanesMax,
    invocationsMax: Math.min(device.limits.maxComputeInvocationsPerWorkgroup, device.limits.maxComputeWorkgroupSizeX),
    offsetAlignment: device.limits.minStorageBufferOffsetAlignment,
  };
  const layouts = createLayouts(device, capabilities.immediates);
  const groups = createBindGroups(device, bindGroupsMax);
  const parameters = capabilities.immediates ? immediateParameters() : uniformParameters(device, layouts.parameters);
  const clock = capabilities.timestamps ? createClock(device) : undefined;
  const pipelines = createBounded<Compiling>(pipelinesMax);

  const compile = (choice: Choice): Compiling =>
    pipelines.take(choice.key, () => {
      const made = compilePipeline(device, choice, layouts.pipeline(choice.kernel), capabilities.immediates);
      const compiling: Compiling = { made };
      made.then(
        (pipeline) => {
          compiling.pipeline = pipeline;
        },
        () => {}, // whoever asks for it is told
      );
      return compiling;
    });
  const chosen = (dispatch: AnyDispatch) => choose(dispatch, limits, dispatch.parameters);

  function plan(dispatches: readonly AnyDispatch[]): Plan | Promise<Plan> {
    const checked = dispatches.map((dispatch) => {
      const choice = chosen(dispatch);
      checkDispatch(dispatch, choice.element, limits);
      return { choice, workgroups: workgroupsOf(choice, dispatch.parameters) };
    });
    const steps = checked.map(({ choice, workgroups }) => ({ workgroups, compiling: compile(choice) }));
    const ready = steps.flatMap(({ workgroups, compiling: { pipeline } }) =>
      pipeline ? [{ workgroups, pipeline }] : [],
    );
    if (ready.length === steps.length) return { dispatches, steps: ready };
    const made = steps.map(async ({ workgroups, compiling }) => ({ workgroups, pipeline: await compiling.made }));
    return Promise.all(made).then((all) => ({ dispatches, steps: all }));
  }

  function submit({ dispatches, steps }: Plan, { timed = false, after }: SubmitOptions = {}): Stopwatch | undefined {
    parameters.begin(dispatches);
    const encoder = device.createCommandEncoder();
    const stop = timed ? clock?.start() : undefined;
    const pass = encoder.beginComputePass(stop ? { timestampWrites: stop.writes } : {});
    for (const [i, dispatch] of dispatches.entries()) encode(pass, dispatch, steps[i], i);
    pass.end();
    stop?.resolve(encoder);
    after?.(encoder);
    device.queue.submit([encoder.finish()]);
    return stop;
  }

  function encode(pass: GPUComputePassEncoder, dispatch: AnyDispatch, step: Step | undefined, index: number): void {
    if (!step) return;
    const [x, y] = step.workgroups;
    if (x === 0) return;
    pass.setPipeline(step.pipeline);
    pass.setBindGroup(0, groups.take(dispatch, layouts.bindings(dispatch.kernel)));
    parameters.set(pass, index);
    pass.dispatchWorkgroups(x, y);
  }

  let last: Promise<unknown> = Promise.resolve();
  async function run(dispatches: readonly AnyDispatch[], timed: boolean): Promise<number | undefined> {
    const planned = plan(dispatches);
    const before = last;
    const submitted = (async () => {
      const ready = await planned;
      await before.catch(() => {});
      return { stopwatch: submit(ready, { timed }) };
    })();
    last = submitted;
    const { stopwatch } = await submitted;
    return timed
      ? stopwatch
        ? stopwatch.read()
        : device.queue.onSubmittedWorkDone().then(() => undefined)
      : undefined;
  }

  for (const wanted of warm) compile(choose(wanted, limits));
  return {
    async prepare(wanted) {
      await Promise.all(wanted.map((each) => compile(choose(each, limits)).made));
    },
    run: (dispatches, { timed = false } = {}) => run(dispatches, timed),
    plan,
    submit,
    variantOf: (dispatch) => chosen(dispatch).variant.name,
    forget: groups.forget,
    report: () => ({ pipelines: pipelines.size(), bindGroups: groups.size() }),
  };
}

async function compilePipeline(
  device: GPUDevice,
  { key, kernel, variant, element, fixed }: Choice,
  layout: GPUPipelineLayout,
  immediates: boolean,
): Promise<GPUComputePipeline> {
  const text = composeText(entry(kernel).parameters, variant, element, immediates, fixed);
  const module = await compileModule(device, key, text);
  try {
    const compute = { module, entryPoint: 'main', constants: fixed };
    return await device.createComputePipelineAsync({ label: key, layout, compute });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KernelError(`${key} cannot be made here: ${why}`, { cause });
  }
}

/** Layouts follow from the catalogue alone, so that every variant of a kernel shares them and their bind groups. */
function createLayouts(device: GPUDevice, immediates: boolean) {
  const visibility = GPUShaderStage.COMPUTE;
  const buffer: GPUBufferBindingLayout = { type: 'uniform', hasDynamicOffset: true, minBindingSize: 0 };
  const parameters = device.createBindGroupLayout({ entries: [{ binding: 0, visibility, buffer }] });
  const made = new Map<KernelName, { bindings: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();
  const get = (kernel: KernelName) => {
    const known = made.get(kernel);
    if (known) return known;
    const { bindings: declared, parameters: fields } = entry(kernel);
    const entries = Object.values(declared).map(({ access }, binding): GPUBindGroupLayoutEntry => {
      return { binding, visibility, buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' } };
    });
    const bindings = device.createBindGroupLayout({ label: kernel, entries });
    const pipeline = device.createPipelineLayout(
      immediates
        ? { bindGroupLayouts: [bindings], immediateSize: Object.keys(fields).length * 4 }
        : { bindGroupLayouts: [bindings, parameters] },
    );
    const fresh = { bindings, pipeline };
    made.set(kernel, fresh);
    return fresh;
  };
  return {
    parameters,
    bindings: (kernel: KernelName) => get(kernel).bindings,
    pipeline: (kernel: KernelName) => get(kernel).pipeline,
  };
}

function createBindGroups(device: GPUDevice, max: number) {
  const numbers = new WeakMap<GPUBuffer, number>();
  const groups = createBounded<{ readonly group: GPUBindGroup; readonly buffers: readonly GPUBuffer[] }>(max);
  let next = 0;
  const numberOf = (buffer: GPUBuffer): number => {
    const known = numbers.get(buffer) ?? next++;
    numbers.set(buffer, known);
    return known;
  };
  return {
    take({ kernel, bindings }: AnyDispatch, layout: GPUBindGroupLayout): GPUBindGroup {
      const given = bindings as Readonly<Record<string, BufferRange>>;
      const ranges = Object.keys(entry(kernel).bindings).flatMap((name) => given[name] ?? []);
      const key = [kernel, ...ranges.map(({ buffer, offset, size }) => `${numberOf(buffer)}+${offset}:${size}`)].join(
        ' ',
      );
      return groups.take(key, () => {
        const entries = ranges.map(({ buffer, offset, size }, binding) => ({
          binding,
          resource: { buffer, offset, size },
        }));
        return { group: device.createBindGroup({ layout, entries }), buffers: ranges.map(({ buffer }) => buffer) };
      }).group;
    },
    forget(buffer: GPUBuffer): void {
      groups.drop(({ buffers }) => buffers.includes(buffer));
    },
    size: groups.size,
  };
}

interface ParameterPath {
  begin(dispatches: readonly AnyDispatch[]): void;
  set(pass: GPUComputePassEncoder, index: number): void;
}

function parameterWords({ kernel, parameters }: AnyDispatch): Uint32Array<ArrayBuffer> {
  const fields = Object.entries(entry(kernel).parameters);
  const words = new Uint32Array(fields.length);
  const floats = new Float32Array(words.buffer);
  for (const [i, [name, kind]] of fields.entries())
    (kind === 'u32' ? words : floats)[i] = (parameters as Readonly<Record<string, number>>)[name] ?? 0;
  return words;
}

function immediateParameters(): ParameterPath {
  let words: Uint32Array<ArrayBuffer>[] = [];
  return {
    begin(dispatches) {
      words = dispatches.map(parameterWords);
    },
    set(pass, index) {
      const own = words[index];
      if (own) pass.setImmediates(0, own);
    },
  };
}

/** For adapters without immediates: one buffer for all dispatches of a submit, written before it in the queue's order. */
function uniformParameters(device: GPUDevice, layout: GPUBindGroupLayout): ParameterPath {
  let room = 0;
  let buffer: GPUBuffer | undefined;
  let group: GPUBindGroup | undefined;
  const grow = (count: number) => {
    buffer?.destroy(); // the queue keeps it until what was submitted is done
    room = 2 ** Math.ceil(Math.log2(Math.max(count, 64)));
    buffer = device.createBuffer({
      size: room * UNIFORM_STRIDE,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const resource = { buffer, size: PARAMETER_BYTES };
    group = device.createBindGroup({ layout, entries: [{ binding: 0, resource }] });
  };
  return {
    begin(dispatches) {
      if (dispatches.length > room) grow(dispatches.length);
      const all = new Uint32Array((dispatches.length * UNIFORM_STRIDE) / 4);
      for (const [i, dispatch] of dispatches.entries()) all.set(parameterWords(dispatch), (i * UNIFORM_STRIDE) / 4);
      if (buffer) device.queue.writeBuffer(buffer, 0, all);
    },
    set: (pass, index) => pass.setBindGroup(1, group, [index * UNIFORM_STRIDE]),
  };
}

/** Timestamps at both ends of a pass. */
function createClock(device: GPUDevice) {
  return {
    start() {
      const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
      const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
      const staging = device.createBuffer({ size: 16, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
      return {
        writes: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
        resolve(encoder: GPUCommandEncoder): void {
          encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
          encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
        },
        async read(): Promise<number> {
          await staging.mapAsync(GPUMapMode.READ);
          const [begin = 0n, end = 0n] = new BigUint64Array(staging.getMappedRange());
          const ms = Number(end - begin) / 1e6;
          for (const each of [querySet, resolved, staging]) each.destroy();
          return ms;
        },
      };
    },
  };
}

function createBounded<T>(max: number) {
  const kept = new Map<string, T>();
  return {
    take(key: string, make: () => T): T {
      const found = kept.get(key) ?? make();
      kept.delete(key);
      kept.set(key, found);
      const [oldest] = kept.keys();
      if (kept.size > max && oldest !== undefined) kept.delete(oldest);
      return found;
    },
    drop(is: (value: T) => boolean): void {
      for (const [key, value] of kept) if (is(value)) kept.delete(key);
    },
    size: () => kept.size,
  };
}
