// What a codec is to those who store vectors: a name, a rate, and a CPU reference that encodes and decodes one vector at a
// time, bit by bit what the kernels do. A codec's name says all that a reader needs; nothing else is stored with a record.
// Not here: integrity. In a fixed-rate record every pattern of bits is a vector, so that a corrupted one cannot be told
// from another; whoever wants to know keeps checksums of pages (kernel `checksum`), as the cache does (seals.ts).

/** A fixed rate: one vector of a head becomes one record of whole 32-bit words, readable alone. */
export interface RecordCodec {
  /** `tcq4`; also the name in shaders/records.ts, which has its number for kernels. */
  readonly name: string;
  /** Records hold rotated vectors: encode takes them, and decode gives them, rotated. */
  readonly rotated: boolean;
  /** Every bit pattern of its element type comes back (but signalling NaN, which a 16-bit type makes quiet). */
  readonly exact: boolean;
  /** Words of a record; throws for a dimension that it does not have. */
  words(dim: number): number;
  /** The length of `vector` is the dimension; `record` has `words(dim)` words, which are all written. */
  encode(vector: Float32Array, record: Uint32Array): void;
  decode(record: Uint32Array, vector: Float32Array): void;
}
