// What an adapter's process and the core say of that process itself: its settings, its greeting, its exit codes.

import type { Capability } from '../../shaders/kernel.ts';

/** What an operator sets for the kernels of all adapters. */
export interface KernelSettings {
  /** Shaders' accesses are kept inside their bindings by the adapter too; default true. */
  readonly robustness?: boolean;
  /** Kernels (`wantedOf` in kernel-choice.ts) that are compiled at the start, in the background. */
  readonly warm?: readonly string[];
}

export interface DeviceSettings extends KernelSettings {
  readonly bindings: number;
  /** Pieces behind descriptor 4; 0: none, every payload comes inline. */
  readonly pieces: number;
  /** A Vulkan loader to use instead of the system's. */
  readonly loader?: string;
  /** Which adapter, where the process sees several: a part of its name. */
  readonly name?: string;
}

export interface DeviceHello {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly backend: string;
  readonly software: boolean;
  readonly features: string[];
  readonly limits: Record<string, number>;
  readonly bindings: number;
  readonly scratch: number;
  /** What its kernels can be chosen by: `AdapterCapabilities` of open-adapter.ts. */
  readonly capabilities: {
    readonly has: readonly Capability[];
    readonly immediates: boolean;
    readonly timestamps: boolean;
    readonly subgroupLanesMax: number;
  };
}

/** Why a request was not done. */
export interface Refusal {
  /** `kernel`: the work is wrong; `called-off`: it had not begun; `failed`: anything else. */
  readonly kind: 'kernel' | 'called-off' | 'failed';
  readonly message: string;
}

export const EXIT_NO_ADAPTER = 3;
export const EXIT_LOST = 4;
