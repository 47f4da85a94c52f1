// onnxruntime's WebGPU provider as a rival in matrix products, where it is installed: as a package that can be found from
// here, or in the folder that BENCH_ONNXRUNTIME names. Products are chained, so that what it copies between processor and
// adapter is shared among them. The model is written here, as little of the ONNX format as that takes.
import { createRequire } from 'node:module';

interface Session {
  run(feeds: Record<string, unknown>): Promise<Record<string, { readonly data: Float32Array }>>;
  release(): Promise<void>;
}
interface Onnxruntime {
  readonly Tensor: new (type: string, data: Float32Array, dims: readonly number[]) => unknown;
  readonly InferenceSession: {
    create(model: Uint8Array, options: { readonly executionProviders: readonly string[] }): Promise<Session>;
  };
}

export interface Peer {
  readonly version: string;
  /** `left` times `right`, times `right`, …: `links` products of size x size. */
  readonly run: () => Promise<Float32Array>;
  readonly links: number;
  close(): Promise<void>;
}

/** A string says why there is none. */
export async function openPeer(
  folder: string | undefined,
  left: Float32Array,
  right: Float32Array,
  size: number,
): Promise<Peer | string> {
  const require = createRequire(import.meta.url);
  const name = folder ?? 'onnxruntime-node';
  const links = 8;
  try {
    const { Tensor, InferenceSession } = require(name) as Onnxruntime;
    const { version } = require(`${name}/package.json`) as { version: string };
    const model = chain(right, size, links);
    const session = await InferenceSession.create(model, { executionProviders: ['webgpu'] });
    const input = new Tensor('float32', left, [size, size]);
    const run = async () => {
      const { out } = await session.run({ in: input });
      if (!out) throw new Error('onnxruntime gave no output');
      return out.data;
    };
    return { version, run, links, close: () => session.release() };
  } catch (error) {
    return `onnxruntime-node: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`;
  }
}

// ---- protocol buffers, as far as one model goes

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
const number = (field: number, value: number) => Uint8Array.from([...varint(field * 8), ...varint(value)]);
const bytes = (field: number, value: Uint8Array | string) => {
  const body = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([Uint8Array.from([...varint(field * 8 + 2), ...varint(body.length)]), body]);
};
const message = (field: number, ...parts: Uint8Array[]) => bytes(field, Buffer.concat(parts));

const FLOAT = 1;

/** A graph of `links` MatMul nodes, in -> out, the right side a constant of the model. */
function chain(right: Float32Array, size: number, links: number): Uint8Array {
  const between = (i: number) => (i === 0 ? 'in' : i === links ? 'out' : `x${i}`);
  const node = (i: number) =>
    message(1, bytes(1, between(i)), bytes(1, 'right'), bytes(2, between(i + 1)), bytes(4, 'MatMul'));
  const data = new Uint8Array(right.buffer, right.byteOffset, right.byteLength);
  const constant = message(5, number(1, size), number(1, size), number(2, FLOAT), bytes(8, 'right'), bytes(9, data));
  const dimension = message(1, number(1, size));
  const matrix = message(2, message(1, number(1, FLOAT), message(2, dimension, dimension)));
  const graph = message(
    7,
    ...Array.from({ length: links }, (_, i) => node(i)),
    ...[bytes(2, 'chain'), constant],
    ...[message(11, bytes(1, 'in'), matrix), message(12, bytes(1, 'out'), matrix)],
  );
  return Buffer.concat([number(1, 8), graph, message(8, bytes(1, ''), number(2, 17))]);
}
