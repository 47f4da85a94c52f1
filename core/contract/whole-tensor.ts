// A tensor as one answer, small enough to be kept. Pure.

export interface WholeTensor {
  readonly bytes: Uint8Array;
  /** With its etag, and `expires` where it does. */
  readonly headers: Readonly<Record<string, string>>;
}
