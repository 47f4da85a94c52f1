// What an adapter's process and the core say of that process itself: its settings, its greeting, its exit codes.

export interface DeviceSettings {
  readonly bindings: number;
  /** Pieces behind descriptor 4; 0: none, every payload comes inline. */
  readonly pieces: number;
  /** A Vulkan loader to use instead of the system's. */
  readonly loader?: string;
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
}

export const EXIT_NO_ADAPTER = 3;
export const EXIT_LOST = 4;
