// What the kernel benchmark measures: for each kernel, size, element and variant that the adapter can take, a dispatch, what
// it moves or computes, and a check of its answer against the reference. Data are seeded and not uniform; of a large answer
// the beginning and the end are compared, of a matrix some rows.
import { type AnyDispatch, type BufferRange, entry } from '../../core/gpu/kernel-choice.ts';
import type { Kernels } from '../../core/gpu/kernels.ts';
import { type KernelName, OPERATION } from '../../shaders/catalogue.ts';
import { type Element, parts } from '../../shaders/kernel.ts';
import * as references from '../../shaders/references.ts';
import { checksumSteps } from '../../shaders/steps.ts';
import { WrongAnswer } from './report.ts';

export interface KernelSubject {
  readonly name: string;
  readonly kernel: KernelName | 'copyBufferToBuffer';
  /** Whether it is what a dispatch without a variant would take. */
  readonly isChosen: boolean;
  readonly size: number;
  readonly element: Element;
  /** Read and written; or multiplied and added. */
  readonly bytes?: number;
  readonly flops?: number;
  encode(times: number): AnyDispatch[];
  /** Throws WrongAnswer unless what it gave is right. */
  check(): Promise<void>;
}

const SAMPLE_BYTES = 1 << 16;
const ROUNDING = 2 ** -24;

export interface Desk {
  readonly device: GPUDevice;
  readonly kernels: Kernels;
  buffer(data: ArrayBufferView | number): BufferRange;
  read(range: BufferRange, at: number, length: number): Promise<ArrayBuffer>;
}

export function createDesk(device: GPUDevice, kernels: Kernels): Desk {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  return {
    ...{ device, kernels },
    buffer(data) {
      const length = typeof data === 'number' ? data : data.byteLength;
      const size = Math.max(16, Math.ceil(length / 16) * 16);
      const buffer = device.createBuffer({ size, usage });
      if (typeof data !== 'number')
        device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, length);
      return { buffer, offset: 0, size };
    },
    async read({ buffer, offset }, at, length) {
      const size = Math.ceil(length / 4) * 4;
      const staging = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset + at, staging, 0, size);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      const bytes = staging.getMappedRange().slice(0, length);
      staging.destroy();
      return bytes;
    },
  };
}

/** Between -1 and 1, not uniform, the same on every run. */
export function makeFloats(length: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  for (let i = 0, state = 20_261_120; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const x = state / 2 ** 31 - 1;
    values[i] = x * x * x;
  }
  return values;
}

interface Plan {
  readonly kernel: KernelName;
  readonly about: string;
  readonly size: number;
  readonly element?: Element;
  readonly constants?: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, number>>;
  readonly bindings: Readonly<Record<string, BufferRange>>;
  readonly bytes?: number;
  readonly flops?: number;
  readonly check: () => Promise<void>;
  /** Only what would be chosen. */
  readonly chosenOnly?: boolean;
}

function subjectsOf({ kernels }: Desk, plan: Plan): KernelSubject[] {
  const { kernel, parameters, bindings, constants = {}, element = entry(kernel).elements[0] ?? 'f32' } = plan;
  const dispatch = { kernel, parameters, bindings, constants, element } as unknown as AnyDispatch;
  const chosen = kernels.variantOf(dispatch);
  return entry(kernel).variants.flatMap(({ name }): KernelSubject[] => {
    const own = { ...dispatch, variant: name } as AnyDispatch;
    if ((plan.chosenOnly && name !== chosen) || !isAble(kernels, own)) return [];
    return [
      {
        ...{
          name: [kernel, plan.about, name].filter((word) => word !== '').join(' '),
          kernel,
          isChosen: name === chosen,
          size: plan.size,
          element,
        },
        ...(plan.bytes === undefined ? {} : { bytes: plan.bytes }),
        ...(plan.flops === undefined ? {} : { flops: plan.flops }),
        encode: (times) => Array(times).fill(own),
        check: async () => {
          await kernels.run([own]);
          await plan.check().catch((error: Error) => {
            throw new WrongAnswer(`${kernel} ${plan.about} ${name}: ${error.message}`);
          });
        },
      },
    ];
  });
}

function isAble(kernels: Kernels, dispatch: AnyDispatch): boolean {
  try {
    return kernels.variantOf(dispatch) !== '';
  } catch {
    return false;
  }
}

function assertBytes(got: ArrayBuffer, wanted: ArrayBufferView, what: string): void {
  const bytes = new Uint8Array(wanted.buffer, wanted.byteOffset, wanted.byteLength);
  if (Buffer.compare(new Uint8Array(got), bytes) !== 0) throw new Error(`${what} are not what they have to be`);
}

function assertNear(got: ArrayLike<number>, wanted: ArrayLike<number>, bound: (i: number) => number): void {
  for (let i = 0; i < wanted.length; i++)
    if (!(Math.abs((got[i] ?? Number.NaN) - (wanted[i] ?? 0)) <= bound(i)))
      throw new Error(`value ${i} is ${got[i]}, not ${wanted[i]} within ${bound(i)}`);
}

/** Kernels whose time is that of memory. */
export function streamingSubjects(desk: Desk, bytes: number): KernelSubject[] {
  const floats = makeFloats(bytes / 4);
  const words = new Uint32Array(floats.buffer);
  const halves = new Uint16Array(floats.buffer, 0, bytes / 4);
  const source = desk.buffer(words);
  const target = desk.buffer(bytes);
  const both = { source, target };
  /** Both ends of the target: `of` gives the values that a range of them has to hold. */
  const ends = (length: number, of: (begin: number, end: number) => ArrayBufferView, width: number) => async () => {
    for (const at of [0, Math.max(0, length - SAMPLE_BYTES)]) {
      const count = Math.min(SAMPLE_BYTES, length);
      assertBytes(await desk.read(target, at, count), of(at / width, (at + count) / width), `bytes from ${at}`);
    }
  };
  const values = bytes / 4;
  const [level] = checksumSteps(bytes);
  const plans: Plan[] = [
    ...[
      {
        kernel: 'fill',
        about: '',
        parameters: { words: values, value: 7 },
        bindings: { target },
        bytes,
        check: ends(bytes, (a, b) => new Uint32Array(b - a).fill(7), 4),
      } as const,
      {
        kernel: 'copy',
        about: '',
        parameters: { words: values },
        bindings: both,
        bytes: 2 * bytes,
        check: ends(bytes, (a, b) => words.subarray(a, b), 4),
      } as const,
    ],
    ...[0, 1].flatMap((FORMAT): Omit<Plan, 'size'>[] => {
      const about = FORMAT === 0 ? 'f16' : 'bf16';
      const constants = { FORMAT };
      return [
        {
          kernel: 'pack',
          about,
          constants,
          parameters: { values },
          bindings: both,
          bytes: bytes * 1.5,
          check: ends(bytes / 2, (a, b) => references.pack(words.subarray(a, b), FORMAT), 2),
        },
        {
          kernel: 'unpack',
          about,
          constants,
          parameters: { values },
          bindings: both,
          bytes: bytes * 1.5,
          check: ends(bytes, (a, b) => references.unpack(halves.subarray(a, b), FORMAT), 4),
        },
      ];
    }),
    ...(level
      ? [
          {
            kernel: 'checksum',
            about: '',
            parameters: { ...level },
            bindings: both,
            bytes,
            check: ends(
              level.streams * 16,
              (a, b) => references.checksumLevel(new Uint8Array(words.buffer), level).subarray(a, b),
              4,
            ),
          } as const,
        ]
      : []),
  ].map((plan) => ({ ...plan, size: bytes }));
  return [...plans, ...numericPlans(desk, floats, both, bytes)].flatMap((plan) => subjectsOf(desk, plan));
}

function numericPlans(
  desk: Desk,
  floats: Float32Array,
  bindings: { source: BufferRange; target: BufferRange },
  size: number,
): Plan[] {
  const { target } = bindings;
  const values = floats.length;
  const hadamard = (BLOCK: number): Plan => ({
    ...{ kernel: 'hadamard', about: `${BLOCK}`, size, bindings, bytes: 2 * size },
    ...{ constants: { BLOCK }, parameters: { values } },
    async check() {
      const wanted = references.hadamard(floats.subarray(0, 4096), BLOCK);
      assertNear(
        new Float32Array(await desk.read(target, 0, 4096 * 4)),
        wanted,
        () => 16 * ROUNDING * Math.sqrt(BLOCK),
      );
    },
  });
  const span = 4096;
  const reduce: Plan = {
    ...{ kernel: 'reduce', about: `sum by ${span}`, size, bindings, bytes: size },
    ...{ constants: { OPERATION: OPERATION.sum }, parameters: { length: values, span } },
    async check() {
      const wanted = references.reduce(floats.subarray(0, 8 * span), span, OPERATION.sum);
      assertNear(new Float32Array(await desk.read(target, 0, 32)), wanted, () => span * ROUNDING * span);
    },
  };
  const columns = 2048;
  const matvec: Plan = {
    ...{ kernel: 'matvec', about: `${columns} columns`, size, bytes: size, flops: 2 * values },
    ...{
      parameters: { rows: values / columns, columns },
      bindings: { matrix: bindings.source, vector: bindings.source, target },
    },
    async check() {
      const wanted = references.matmul(floats, floats, { rows: 16, inner: columns, columns: 1 });
      assertNear(new Float32Array(await desk.read(target, 0, 64)), wanted, () => columns * ROUNDING * columns);
    },
  };
  return [hadamard(64), hadamard(128), hadamard(256), hadamard(16), reduce, matvec];
}

/** Square products; `right` is scaled so that products of products keep their size. */
export function matmulSubjects(desk: Desk, size: number, element: 'f32' | 'f16', chosenOnly: boolean) {
  const left = makeFloats(size * size);
  const right = makeFloats(size * size)
    .reverse()
    .map((x) => (x * 2.6) / Math.sqrt(size));
  const narrow = (x: Float32Array<ArrayBuffer>) => (element === 'f16' ? Float16Array.from(x) : x);
  const [a, b] = [narrow(left), narrow(right)];
  const target = desk.buffer(a.byteLength);
  const rows = [0, 1, parts(size, 2), size - 1];
  const shape = { rows: size, inner: size, columns: size };
  const subjects = subjectsOf(desk, {
    ...{ kernel: 'matmul', about: `${size}`, size, element, chosenOnly, flops: 2 * size ** 3 },
    ...{ parameters: shape, bindings: { left: desk.buffer(a), right: desk.buffer(b), target } },
    async check() {
      const wanted = references.matmul(a, b, shape, rows);
      for (const [i, row] of rows.entries()) {
        const bytes = await desk.read(target, row * size * a.BYTES_PER_ELEMENT, size * a.BYTES_PER_ELEMENT);
        const got = element === 'f16' ? new Float16Array(bytes) : new Float32Array(bytes);
        // sizes of terms are below 2.6 / sqrt(size): the bound of a sum of so many
        const bound = size * ROUNDING * 2.6 * Math.sqrt(size) + (element === 'f16' ? 2 ** -9 : 0);
        assertNear(got, wanted.subarray(i * size, (i + 1) * size), () => bound);
      }
    },
  });
  return { subjects, left, right };
}
