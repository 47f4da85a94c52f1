// Where adapters are looked for, and in which order: what the system offers (a real GPU, or a software Vulkan driver it
// has), then SwiftShader from npm. A candidate says how to start a process that may find an adapter; whether there is one,
// only that process can tell. `GPU_ADAPTERS` replaces the search by a list (contract/adapter-choice.ts), one process each.
import { parseAdapter } from '../contract/adapter-choice.ts';
import { unpackSwiftshader } from './swiftshader.ts';

export interface Candidate {
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly loader?: string;
  /** What the adapter's name must contain. */
  readonly adapter?: string;
}

/** Makes a candidate's files ready; throws, with what to do, where this machine cannot have it. */
export function candidate(entry: string, dataDir: string): Candidate {
  const { source, name, pci } = parseAdapter(entry);
  const adapter = name === undefined ? {} : { adapter: name };
  if (source === 'swiftshader') {
    const { loader, manifest } = unpackSwiftshader(dataDir);
    return { name: entry, loader, environment: driver(manifest), ...adapter };
  }
  const environment = { ...(source === 'system' ? {} : driver(source)), ...(pci === undefined ? {} : slot(pci)) };
  return { name: entry, environment, ...adapter };
}

const driver = (manifest: string) => ({ VK_DRIVER_FILES: manifest, VK_ICD_FILENAMES: manifest });

/** What Mesa's layer reads: the default device, and that the others are not to be shown. */
const slot = (pci: string) => ({
  DRI_PRIME: `pci-${pci.replaceAll(/[:.]/g, '_')}`,
  MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: '1',
});

/** The search when nothing is configured: the first that has an adapter serves. */
export const SEARCH_ORDER = ['system', 'swiftshader'] as const;
