// What codes many vectors at once into as many bytes as they need: the codecs of variable rate. Their containers are whole
// u32 words, little-endian (as all machines that this runs on are), and end in the checksum of all that stands before it.
// A container is decoded whole or refused: CorruptContainer, and no values.

export interface BlockShape {
  readonly vectors: number;
  readonly dim: number;
}

export interface BlockCodec<Options> {
  readonly name: string;
  /** Vector after vector, of `dim` values each. */
  encode(values: Float32Array, shape: BlockShape, options: Options): Uint8Array<ArrayBuffer>;
  decode(bytes: Uint8Array): { readonly values: Float32Array<ArrayBuffer>; readonly shape: BlockShape };
}

/** These bytes are not what an encoder wrote. */
export class CorruptContainer extends Error {
  constructor(what: string) {
    super(`the container is corrupt: ${what}; take the data from where it came from`);
  }
}
