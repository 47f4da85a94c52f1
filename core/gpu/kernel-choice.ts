// From what is to be computed to how: which variant, with which constants, in how many workgroups, and whether the ranges
// hold what the kernel touches and no buffer is read and written at once. A fault is found here, before anything is encoded,
// and says what to do. Nothing of a device but its limits is known here. Not checked: what lies in the buffers, and that a
// buffer is alive.
import {
  type BindingOf,
  CATALOGUE,
  type ConstantOf,
  type ElementOf,
  type KernelName,
  type ParameterOf,
} from '../../shaders/catalogue.ts';
import {
  type Binding,
  type Capability,
  ELEMENT_BYTES,
  type Element,
  type Fixed,
  type Kernel,
  UNIT_BYTES,
  type Variant,
  WORKGROUPS_MAX,
} from '../../shaders/kernel.ts';

export interface BufferRange {
  readonly buffer: GPUBuffer;
  /** A multiple of the adapter's minStorageBufferOffsetAlignment. */
  readonly offset: number;
  /** A multiple of 16. */
  readonly size: number;
}

/** A kernel with all that is fixed when it is compiled. */
export interface Wanted<N extends KernelName = KernelName> {
  readonly kernel: N;
  readonly constants?: Partial<Readonly<Record<ConstantOf<N>, number>>>;
  readonly element?: ElementOf<N>;
  /** By name, against the adapter's preference. */
  readonly variant?: string;
  /** Overrides of speed: WORKGROUP, PER, … */
  readonly tuning?: Readonly<Record<string, number>>;
}

/** One run of it. */
export interface Dispatch<N extends KernelName = KernelName> extends Wanted<N> {
  readonly bindings: Readonly<Record<BindingOf<N>, BufferRange>>;
  readonly parameters: Readonly<Record<ParameterOf<N>, number>>;
}
export type AnyWanted = { [N in KernelName]: Wanted<N> }[KernelName];
export type AnyDispatch = { [N in KernelName]: Dispatch<N> }[KernelName];

/** What is wrong with a kernel or a dispatch, and what would be right. */
export class KernelError extends Error {}

export interface DeviceLimits {
  readonly has: ReadonlySet<Capability>;
  readonly subgroupLanesMax: number;
  readonly invocationsMax: number;
  readonly offsetAlignment: number;
}

export interface Choice {
  /** Of its pipeline: name, variant, element and constants; nothing of shapes, offsets or buffers. */
  readonly key: string;
  readonly kernel: KernelName;
  readonly variant: Variant;
  readonly element: Element;
  readonly fixed: Fixed<never>;
}

type Numbers = Readonly<Record<string, number>>;
/** What the catalogue says, for a name that is only known at run time. */
export type AnyKernel = Kernel<string, string, never>;

export function entry(name: KernelName): AnyKernel {
  if (!Object.hasOwn(CATALOGUE, name))
    throw new KernelError(`there is no kernel ${name}; there is ${Object.keys(CATALOGUE).join(', ')}`);
  return (CATALOGUE as Readonly<Record<string, unknown>>)[name] as AnyKernel;
}

const WANTED = /^([^:]+)((?::\w+=\d+)*)(?::(u32|f32|f16))?$/;

/** What a person writes: `hadamard`, or with constants and element `hadamard:BLOCK=64:f16`. */
export function wantedOf(text: string): AnyWanted {
  const [, name = '', numbers = '', element] = WANTED.exec(text) ?? [];
  const { constants: known, elements } = entry((name || text) as KernelName);
  const constants = Object.fromEntries(
    numbers
      .split(':')
      .flatMap((each) => (each ? [each.split('=')] : []))
      .map(([key = '', value]) => [key, Number(value)]),
  );
  const stray = Object.keys(constants).find((key) => !Object.hasOwn(known, key));
  if (stray)
    throw new KernelError(`${name} has no constant ${stray}; it has ${Object.keys(known).join(', ') || 'none'}`);
  if (element && !elements.includes(element as Element))
    throw new KernelError(`${name} is not made for ${element}, but for ${elements.join(', ')}`);
  return { kernel: name, constants, ...(element ? { element } : {}) } as AnyWanted;
}

/** Without parameters: the first variant that the adapter can take; which one fits a shape, only `dispatch` tells. */
export function choose(wanted: AnyWanted, limits: DeviceLimits, parameters?: Numbers): Choice {
  const kernel = entry(wanted.kernel);
  const element = wanted.element ?? kernel.elements[0] ?? 'f32';
  if (!kernel.elements.includes(element))
    throw new KernelError(`${wanted.kernel} is not made for ${element}, but for ${kernel.elements.join(', ')}`);
  if (element === 'f16' && !limits.has.has('shader-f16'))
    throw new KernelError(`${wanted.kernel} in f16 needs shader-f16, which this adapter lacks; unpack to f32 first`);
  const { variant, fixed } = pickVariant(wanted, kernel, element, limits, parameters);
  const numbers = Object.entries(fixed)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  return {
    key: [wanted.kernel, variant.name, element, ...numbers].join(' '),
    kernel: wanted.kernel,
    variant,
    element,
    fixed,
  };
}

function pickVariant(
  wanted: AnyWanted,
  { variants, constants }: AnyKernel,
  element: Element,
  limits: DeviceLimits,
  parameters?: Numbers,
) {
  const faults: string[] = [];
  const able: { readonly variant: Variant; readonly fixed: Fixed<never> }[] = [];
  for (const variant of variants) {
    if (wanted.variant !== undefined && variant.name !== wanted.variant) continue;
    const fixed = { ...constants, ...variant.tuning, ...wanted.constants, ...pickKnown(variant, wanted.tuning) };
    const fault = faultOf(variant, fixed, element, limits, parameters);
    if (fault) faults.push(`${variant.name} ${fault}`);
    else able.push({ variant, fixed });
  }
  const isLiked = ({ variant }: { variant: Variant }) => !variant.avoids?.some((each) => limits.has.has(each));
  const picked = able.find(isLiked) ?? able[0];
  if (picked) return picked;
  const names = variants.map(({ name }) => name).join(', ');
  throw new KernelError(
    faults.length > 0
      ? `no variant of ${wanted.kernel} can be taken: ${faults.join('; ')}`
      : `${wanted.kernel} has no variant ${wanted.variant}; it has ${names}`,
  );
}

/** Tuning is advice: a variant takes what it knows. */
function pickKnown({ tuning }: Variant, wanted: Numbers = {}): Numbers {
  return Object.fromEntries(Object.entries(wanted).filter(([name]) => name in tuning));
}

function faultOf(
  variant: Variant,
  fixed: Fixed<never>,
  element: Element,
  { has, subgroupLanesMax, invocationsMax }: DeviceLimits,
  parameters?: Numbers,
): string | undefined {
  const missing = variant.requires?.filter((each) => !has.has(each)) ?? [];
  const { WORKGROUP } = fixed;
  if (missing.length > 0) return `needs ${missing.join(' and ')}`;
  if (variant.elements && !variant.elements.includes(element)) return `is made for ${variant.elements.join(', ')}`;
  if (WORKGROUP > invocationsMax) return `with WORKGROUP=${WORKGROUP} exceeds the adapter's ${invocationsMax}`;
  if (variant.requires?.includes('subgroups') && WORKGROUP % subgroupLanesMax !== 0)
    return `wants WORKGROUP to be a multiple of the adapter's subgroups, ${subgroupLanesMax}, not ${WORKGROUP}`;
  if (variant.lanes !== undefined && variant.lanes !== subgroupLanesMax)
    return `is made for subgroups of ${variant.lanes} lanes, and the adapter's have ${subgroupLanesMax}`;
  if (variant.worksWith && !variant.worksWith(fixed)) return `does not work with ${JSON.stringify(fixed)}`;
  if (parameters && variant.fits && !variant.fits(parameters)) return `is not made for ${JSON.stringify(parameters)}`;
  return undefined;
}

/** Two dimensions, of which the first is full: a kernel numbers its workgroups through. */
export function workgroupsOf({ variant, fixed, kernel }: Choice, parameters: Numbers): readonly [number, number] {
  const count = variant.workgroups(parameters, fixed);
  const [x, y] = typeof count === 'number' ? spread(count) : count;
  const isGood = (n: number) => Number.isInteger(n) && n <= WORKGROUPS_MAX;
  if (!isGood(x) || !isGood(y)) throw new KernelError(`${kernel} would need ${count} workgroups; dispatch it in parts`);
  return [x, y];
}

function spread(count: number): readonly [number, number] {
  const y = Math.max(1, Math.ceil(count / WORKGROUPS_MAX));
  return [Math.ceil(count / y), y];
}

/** Throws unless the parameters are numbers of their kind, every range holds what the kernel will touch, and none is written
 * where another is read. */
export function checkDispatch(dispatch: AnyDispatch, element: Element, limits: DeviceLimits): void {
  const { bindings, parameters, constants } = entry(dispatch.kernel);
  const fixed: Numbers = { ...constants, ...dispatch.constants };
  const given = dispatch.parameters as Numbers;
  for (const [name, kind] of Object.entries(parameters)) {
    const value = given[name];
    const isGood = kind === 'u32' ? Number.isInteger(value) && value === Number(value) >>> 0 : Number.isFinite(value);
    if (!isGood) throw new KernelError(`${dispatch.kernel}: parameter ${name} has to be ${kind}, not ${value}`);
  }
  const ranges = dispatch.bindings as Readonly<Record<string, BufferRange>>;
  for (const [name, binding] of Object.entries(bindings))
    checkRange(`${dispatch.kernel}: binding ${name}`, ranges[name], binding, given, element, fixed, limits);
  checkAliases(dispatch.kernel, bindings, ranges);
}

/** WebGPU tracks whole buffers: one that is written in a dispatch cannot be read in it, wherever the ranges lie. */
function checkAliases(
  kernel: string,
  bindings: AnyKernel['bindings'],
  ranges: Readonly<Record<string, BufferRange>>,
): void {
  const all = Object.entries(bindings).flatMap(([name, { access }]) => {
    const range = ranges[name];
    return range ? [{ name, access, range }] : [];
  });
  for (const a of all)
    for (const b of all) {
      if (a === b || a.access !== 'write' || a.range.buffer !== b.range.buffer) continue;
      if (b.access === 'read')
        throw new KernelError(
          `${kernel}: ${b.name} is read in the buffer that ${a.name} is written in; use another buffer`,
        );
      if (a.range.offset < b.range.offset + b.range.size && b.range.offset < a.range.offset + a.range.size)
        throw new KernelError(`${kernel}: ${a.name} and ${b.name} are written, and overlap`);
    }
}

function checkRange(
  what: string,
  range: BufferRange | undefined,
  { bytes }: Binding<string>,
  parameters: Numbers,
  element: Element,
  constants: Numbers,
  { offsetAlignment }: DeviceLimits,
): void {
  if (!range) throw new KernelError(`${what} is missing`);
  const { buffer, offset, size } = range;
  if (!(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(size)))
    throw new KernelError(`${what} begins at ${offset} and has ${size} bytes; both have to be whole numbers`);
  const asked = Math.ceil(bytes(parameters, ELEMENT_BYTES[element], constants) / UNIT_BYTES) * UNIT_BYTES;
  if (!(size >= asked))
    throw new KernelError(`${what} holds ${size} bytes, and ${asked} will be touched: ${JSON.stringify(parameters)}`);
  if (size % UNIT_BYTES !== 0) throw new KernelError(`${what} has ${size} bytes; make it a multiple of ${UNIT_BYTES}`);
  if (offset % offsetAlignment !== 0)
    throw new KernelError(
      `${what} begins at ${offset}; on this adapter that has to be a multiple of ${offsetAlignment}`,
    );
  if (offset + size > buffer.size)
    throw new KernelError(`${what} ends at ${offset + size}, its buffer at ${buffer.size}`);
}
