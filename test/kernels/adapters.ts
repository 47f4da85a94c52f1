// The adapters that kernels are tested on, one to a process: SwiftShader from npm always, lavapipe where the system has one
// that Dawn takes (Mesa 23 or newer). Says why there is none, rather than passing over it.
import { candidate } from '../../core/gpu/adapters.ts';
import { openKernels } from '../../core/gpu/kernels.ts';
import {
  type AdapterCapabilities,
  type AdapterOptions,
  adapterName,
  capabilitiesOf,
  openAdapter,
  requestKernelDevice,
} from '../../core/gpu/open-adapter.ts';
import { lavapipeManifest } from '../support/adapters.ts';
import { folder } from '../support/folders.ts';
import { createWorkbench } from './workbench.ts';

export type Source = 'swiftshader' | 'lavapipe';

export interface SourceOptions extends AdapterOptions {
  /** The device has these features and WebGPU's least limits; else all that kernels use. */
  readonly features?: readonly GPUFeatureName[];
}

/** A fresh adapter and device of this source; a string says why there is none. */
export async function openSource(source: Source, { features, ...options }: SourceOptions = {}) {
  const manifest = source === 'lavapipe' ? lavapipeManifest() : source;
  if (manifest === undefined) return 'the system has no lvp_icd*.json';
  const { environment, loader } = candidate(manifest, folder());
  Object.assign(process.env, environment);
  const adapter = await openAdapter({ ...options, loader });
  if (!adapter) return 'Dawn takes no adapter of it; Mesa has to be 23 or newer';
  const device = await (features ? requestLesserDevice(adapter, features) : requestKernelDevice(adapter));
  const errors: string[] = [];
  device.onuncapturederror = ({ error }) => errors.push(error.message);
  return { name: adapterName(adapter), device, capabilities: capabilitiesOf(adapter, device), errors };
}

/** As on a lesser adapter: 256 lanes in a workgroup, and of features no more than these. */
const requestLesserDevice = (adapter: GPUAdapter, features: readonly GPUFeatureName[]): Promise<GPUDevice> =>
  adapter.requestDevice({ requiredFeatures: features.filter((name) => adapter.features.has(name)) });

export type Opened = Exclude<Awaited<ReturnType<typeof openSource>>, string>;

export function workOn({ device, capabilities }: Opened, changed: Partial<AdapterCapabilities> = {}) {
  const kernels = openKernels(device, { ...capabilities, ...changed });
  return { kernels, bench: createWorkbench(device) };
}
