// What the kernel benchmark and its processes, one for each adapter, say to one another.

export interface ChildSettings {
  readonly loader?: string | undefined;
  readonly robustness: boolean;
  readonly rounds: number;
  /** Whether onnxruntime takes part, and where it is if it cannot be found by its name. */
  readonly peer: boolean;
  readonly peerFolder?: string | undefined;
}

export interface KernelTimes {
  readonly name: string;
  readonly kernel: string;
  readonly isChosen: boolean;
  readonly element: string;
  readonly size: number;
  readonly bytes: number | null;
  readonly flops: number | null;
  /** Of one dispatch, for each round. */
  readonly ms: readonly number[];
}

export interface AdapterTimes {
  readonly adapter: string;
  readonly description: string;
  readonly software: boolean;
  readonly has: readonly string[];
  readonly times: readonly KernelTimes[];
  /** Its version, or why it did not take part. */
  readonly peer: string;
}

export type ChildResult =
  | AdapterTimes
  | { readonly missing: string }
  | { readonly failed: string; readonly wrong: boolean };

/** Lines that a process writes before and after it asks onnxruntime for the first time. */
export const PEER_ASKED = 'peer asked';
export const PEER_ANSWERED = 'peer answered';
