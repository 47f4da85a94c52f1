// Where adapters are looked for, and in which order: what the system offers (a real GPU, or a software Vulkan driver it
// has), then SwiftShader from npm. A candidate says how to start a process that may find an adapter; whether there is one,
// only that process can tell. `GPU_ADAPTERS` replaces the search by a list, one process each:
//   system            whatever this machine's own drivers offer
//   swiftshader       the software adapter from npm
//   /path/icd.json    one Vulkan driver, by its manifest
import { unpackSwiftshader } from './swiftshader.ts';

export interface Candidate {
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly loader?: string;
}

/** Makes a candidate's files ready; throws, with what to do, where this machine cannot have it. */
export function candidate(source: string, dataDir: string): Candidate {
  if (source === 'system') return { name: 'system', environment: {} };
  if (source === 'swiftshader') {
    const { loader, manifest } = unpackSwiftshader(dataDir);
    return { name: 'swiftshader', loader, environment: { VK_DRIVER_FILES: manifest, VK_ICD_FILENAMES: manifest } };
  }
  return { name: source, environment: { VK_DRIVER_FILES: source, VK_ICD_FILENAMES: source } };
}

/** The search when nothing is configured: the first that has an adapter serves. */
export const SEARCH_ORDER = ['system', 'swiftshader'] as const;
