// Opens the one adapter of this process: Dawn loaded, the driver held, the adapter asked for. Which adapters there are, the
// process's environment decides (adapters.ts); among several, a part of the name. Also: what of an adapter the kernels can
// use, and how to ask for it.
// Robustness (out-of-range accesses of shaders stay inside their bindings) is on unless it is turned off here, for all
// devices opened so: only for kernels whose ranges are checked before each dispatch.
import { constants } from 'node:os';
import type { Capability } from '../../shaders/kernel.ts';

const RTLD_NODELETE = 0x1000;
const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix';
const IMMEDIATE_BYTES = 64;
/** The largest matrix config that the kernels are written for, f16 in and f32 out. */
const MATRIX = { M: 16, N: 16, K: 16 } as const;

export interface AdapterOptions {
  /** A Vulkan loader to use instead of the system's. */
  readonly loader?: string | undefined;
  /** A part of the adapter's name, as its driver or `adapterName` says it, where there are several. */
  readonly name?: string | undefined;
  /** Default true. */
  readonly robustness?: boolean;
  /** Lets experimental features be asked for (subgroup matrices). Default false. */
  readonly unsafeApis?: boolean;
  /** Timestamps in nanoseconds, where browsers would round them. Default false. */
  readonly exactTimestamps?: boolean;
}

/** Collected, such an object would take its devices down with a crash: they live as long as the process. */
const held: unknown[] = [];

/** Undefined where there is none; throws where there are some, but none of that name, with the names that there are. */
export async function openAdapter(options: AdapterOptions = {}): Promise<GPUAdapter | undefined> {
  if (options.loader) holdLibrary(options.loader);
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  const enabled = [
    ...(options.robustness === false ? ['disable_robustness'] : []),
    ...(options.unsafeApis ? ['allow_unsafe_apis'] : []),
  ];
  const flags = [
    ...(enabled.length > 0 ? [`enable-dawn-features=${enabled.join(',')}`] : []),
    ...(options.exactTimestamps ? ['disable-dawn-features=timestamp_quantization'] : []),
  ];
  const request = async (name: string | undefined): Promise<GPUAdapter | undefined> => {
    const gpu = create(name === undefined ? flags : [...flags, `adapter=${name}`]);
    held.push(gpu);
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (adapter) held.push(adapter);
    return adapter ?? undefined;
  };
  const { name } = options;
  if (name === undefined) return request(undefined);
  try {
    return await request(name);
  } catch (error) {
    // The refusal lists what there is; names that we show are not spelt as drivers spell them.
    const names = [...String(error).matchAll(/ name: '(.*)'$/gm)].map(([, each = '']) => each);
    const meant = names.find((each) => plain(each).includes(plain(name)));
    if (meant !== undefined) return request(meant);
    throw new Error(`no adapter is called ${name}; there is ${names.join(', ') || 'none'}`, { cause: error });
  }
}

const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]+/g, '');

/** Loaded now and never unloaded: the loader that Dawn finds by its plain name when it looks for Vulkan. */
function holdLibrary(path: string): void {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch (error) {
    // It is no Node module, and says so once it is loaded. Anything else is a real failure.
    if (!String(error).includes('did not self-register')) process.stderr.write(`${String(error)}\n`);
  }
}

export const isSoftware = ({ info }: GPUAdapter): boolean =>
  info.isFallbackAdapter ||
  /swiftshader|llvmpipe|lavapipe|warp/i.test(`${info.architecture} ${info.description} ${info.device}`);

/** As people know it. */
export const adapterName = ({ info }: GPUAdapter): string =>
  ([info.device, info.description].find((s) => s.length > 0) ?? 'unnamed').replace(/\W+$/, '');

/** What kernels can be chosen by. */
export interface AdapterCapabilities {
  readonly has: ReadonlySet<Capability>;
  /** Parameters travel with the dispatch; else by a uniform buffer. */
  readonly immediates: boolean;
  readonly timestamps: boolean;
  /** 0 where there are no subgroups. */
  readonly subgroupLanesMax: number;
}

/** What `adapter` can do for kernels, given the features that `device` was opened with. */
export function capabilitiesOf(adapter: GPUAdapter, device: GPUDevice): AdapterCapabilities {
  const { features, limits } = device;
  const has = new Set<Capability>();
  if (features.has('subgroups')) has.add('subgroups');
  if (features.has('shader-f16')) has.add('shader-f16');
  if (features.has(SUBGROUP_MATRIX) && hasMatrix(adapter)) has.add('subgroup-matrix');
  if (isSoftware(adapter)) has.add('software');
  return {
    has,
    immediates: (limits.maxImmediateSize ?? 0) >= IMMEDIATE_BYTES,
    timestamps: features.has('timestamp-query'),
    subgroupLanesMax: has.has('subgroups') ? (adapter.info.subgroupMaxSize ?? 0) : 0,
  };
}

interface MatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function hasMatrix({ info }: GPUAdapter): boolean {
  const { subgroupMatrixConfigs: configs = [] } = info as { readonly subgroupMatrixConfigs?: readonly MatrixConfig[] };
  return [...configs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'f16' && resultComponentType === 'f32' && M === MATRIX.M && N === MATRIX.N && K === MATRIX.K,
  );
}

/** A device with all that kernels use, as far as the adapter has it; bindings as large as it allows. */
export function requestKernelDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const { limits, features } = adapter;
  const wanted = ['subgroups', 'shader-f16', 'timestamp-query', SUBGROUP_MATRIX] as GPUFeatureName[];
  return adapter.requestDevice({
    requiredFeatures: wanted.filter((name) => features.has(name)),
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      ...((limits.maxImmediateSize ?? 0) >= IMMEDIATE_BYTES ? { maxImmediateSize: IMMEDIATE_BYTES } : {}),
    },
  });
}
