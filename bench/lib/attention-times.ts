// What the attention benchmark and its processes, one for each adapter, say to one another: a line of JSON at the end, and
// lines before and after onnxruntime is asked for the first time, as on some adapters it never answers.

export interface AttentionSettings {
  readonly loader?: string | undefined;
  readonly quick: boolean;
  /** What onnxruntime's WebGPU provider computes in, where the adapter can; without it, it takes no part. */
  readonly peer?: 'f16' | 'f32';
  readonly peerFolder?: string | undefined;
}

export interface AttentionTimes {
  readonly work: 'decode' | 'prefill';
  readonly tokens: number;
  /** A codec, or a rival. */
  readonly name: string;
  /** Of keys and values that are read; null for a rival. */
  readonly storedBytes: number | null;
  readonly products: number;
  readonly ms: readonly number[];
}

export interface AttentionResult {
  readonly adapter: string;
  readonly software: boolean;
  readonly copyBytesPerMs: number;
  readonly times: readonly AttentionTimes[];
  readonly peers: readonly string[];
}

export type AttentionAnswer =
  | AttentionResult
  | { readonly missing: string }
  | { readonly failed: string; readonly wrong: boolean };

export const ASKED = 'onnxruntime asked';
export const ANSWERED = 'onnxruntime answered';
