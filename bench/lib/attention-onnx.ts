// onnxruntime's GroupQueryAttention as a rival, where it is installed: as a package that can be found from here, or in the
// folder that BENCH_ONNXRUNTIME names. One query after a past that is a constant of the model, so that it stays where the
// provider keeps it; or a whole prompt. The model is written here, as little of the ONNX format as that takes.
import { createRequire } from 'node:module';

interface Session {
  run(feeds: Record<string, unknown>): Promise<Record<string, { readonly data: Float32Array }>>;
  release(): Promise<void>;
}
interface Onnxruntime {
  readonly Tensor: new (type: string, data: Float32Array | Int32Array, dims: readonly number[]) => unknown;
  readonly InferenceSession: {
    create(
      model: Uint8Array,
      options: {
        readonly executionProviders: readonly string[];
        readonly logSeverityLevel: number;
        readonly extra: object;
      },
    ): Promise<Session>;
  };
}

export interface GroupQueryShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly tokens: number;
  /** 1, after a past of tokens - 1; or as many as tokens. */
  readonly queries: number;
  readonly element: 'f32' | 'f16';
  readonly provider: 'webgpu' | 'cpu';
  /** kvHeads x tokens x dim. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

export interface GroupQueryPeer {
  readonly version: string;
  /** Of queries x heads x dim; so is what comes back. */
  run(query: Float32Array): Promise<Float32Array>;
  close(): Promise<void>;
}

/** A string says why there is none. */
export async function openGroupQuery(
  folder: string | undefined,
  shape: GroupQueryShape,
): Promise<GroupQueryPeer | string> {
  const require = createRequire(import.meta.url);
  const name = folder ?? 'onnxruntime-node';
  try {
    const { Tensor, InferenceSession } = require(name) as Onnxruntime;
    const { version } = require(`${name}/package.json`) as { version: string };
    // threads that spin on after an answer would take the cores from whoever is measured next
    const extra = { session: { intra_op: { allow_spinning: '0' } } };
    const options = { executionProviders: [shape.provider], logSeverityLevel: 3, extra };
    const session = await InferenceSession.create(model(shape), options);
    const { heads, kvHeads, dim, tokens, queries } = shape;
    const own = {
      key: new Tensor('float32', newest(shape, shape.keys), [1, queries, kvHeads * dim]),
      value: new Tensor('float32', newest(shape, shape.values), [1, queries, kvHeads * dim]),
      lengths: new Tensor('int32', Int32Array.of(tokens - 1), [1]),
      total: new Tensor('int32', Int32Array.of(tokens), [1]),
    };
    const run = async (query: Float32Array) => {
      const { out } = await session.run({ ...own, query: new Tensor('float32', query, [1, queries, heads * dim]) });
      if (!out) throw new Error('onnxruntime gave no output');
      return out.data;
    };
    return { version, run, close: () => session.release() };
  } catch (error) {
    return `onnxruntime-node: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`;
  }
}

/** The tokens that come with the queries: queries x kvHeads x dim. */
function newest({ kvHeads, dim, tokens, queries }: GroupQueryShape, all: Float32Array): Float32Array {
  const result = new Float32Array(queries * kvHeads * dim);
  for (let kv = 0; kv < kvHeads; kv++)
    for (let i = 0; i < queries; i++) {
      const from = (kv * tokens + tokens - queries + i) * dim;
      result.set(all.subarray(from, from + dim), (i * kvHeads + kv) * dim);
    }
  return result;
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
const INT32 = 6;
const FLOAT16 = 10;

const integer = (name: string, value: number) => message(5, bytes(1, name), number(3, value), number(20, 2));
const node = (
  type: string,
  from: readonly string[],
  to: readonly string[],
  domain: string,
  ...attributes: Uint8Array[]
) =>
  message(
    1,
    ...from.map((name) => bytes(1, name)),
    ...to.map((name) => bytes(2, name)),
    bytes(4, type),
    ...attributes,
    bytes(7, domain),
  );
const described = (field: number, name: string, type: number, dims: readonly number[]) => {
  const shape = message(2, ...dims.map((size) => message(1, number(1, size))));
  return message(field, bytes(1, name), message(2, message(1, number(1, type), shape)));
};

/** In and out in f32, in between what is asked for. */
function model(shape: GroupQueryShape): Uint8Array {
  const { heads, kvHeads, dim, queries, tokens, element } = shape;
  const type = element === 'f16' ? FLOAT16 : FLOAT;
  const past = tokens - queries;
  const cast = (from: string, to: string, kind: number) => node('Cast', [from], [to], '', integer('to', kind));
  const constant = (name: string, all: Float32Array) => {
    const data = oldest(shape, all);
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return message(
      5,
      ...[1, kvHeads, past, dim].map((size) => number(1, size)),
      number(2, type),
      bytes(8, name),
      bytes(9, raw),
    );
  };
  const inputs = ['q', 'k', 'v', ...(past > 0 ? ['past_key', 'past_value'] : ['', '']), 'lengths', 'total'];
  const graph = message(
    7,
    ...[cast('query', 'q', type), cast('key', 'k', type), cast('value', 'v', type)],
    node(
      ...(['GroupQueryAttention', inputs, ['o', 'present_key', 'present_value'], 'com.microsoft'] as const),
      ...[integer('num_heads', heads), integer('kv_num_heads', kvHeads)],
    ),
    cast('o', 'out', FLOAT),
    bytes(2, 'attention'),
    ...(past > 0 ? [constant('past_key', shape.keys), constant('past_value', shape.values)] : []),
    described(11, 'query', FLOAT, [1, queries, heads * dim]),
    ...['key', 'value'].map((name) => described(11, name, FLOAT, [1, queries, kvHeads * dim])),
    ...['lengths', 'total'].map((name) => described(11, name, INT32, [1])),
    described(12, 'out', FLOAT, [1, queries, heads * dim]),
  );
  const opsets = [message(8, bytes(1, ''), number(2, 17)), message(8, bytes(1, 'com.microsoft'), number(2, 1))];
  return Buffer.concat([number(1, 8), graph, ...opsets]);
}

function oldest({ kvHeads, dim, tokens, queries, element }: GroupQueryShape, all: Float32Array) {
  const past = tokens - queries;
  const result = new (element === 'f16' ? Float16Array : Float32Array)(kvHeads * past * dim);
  for (let kv = 0; kv < kvHeads; kv++)
    result.set(all.subarray(kv * tokens * dim, (kv * tokens + past) * dim), kv * past * dim);
  return result;
}
