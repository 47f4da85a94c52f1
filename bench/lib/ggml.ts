// ggml's own quantizers, to confirm ours of its formats (rivals-blocks.ts), where its library is installed: in the package
// @node-llama-cpp/linux-x64, if that can be found from here, or in the folder that BENCH_GGML names. Called by koffi.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const PACKAGE = '@node-llama-cpp/linux-x64';
const LIBRARY = 'libggml-base.so';

export type GgmlFormat = 'q8_0' | 'q4_0' | 'iq4_nl';
export const GGML_FORMATS: readonly GgmlFormat[] = ['q8_0', 'q4_0', 'iq4_nl'];

export interface Ggml {
  readonly version: string;
  /** What is read back of values written in a format, as into a KV cache: without an importance matrix. */
  roundTrip(format: GgmlFormat, values: Float32Array): Float32Array<ArrayBuffer>;
}

/** A string says why there is none. */
export async function openGgml(folder: string | undefined): Promise<Ggml | string> {
  try {
    const { path, version } = find(folder);
    const { default: koffi } = await import('koffi');
    const library = koffi.load(path);
    const call = (name: string, from: string, to: string) =>
      library.func(`void ${name}(${from} from, ${to} to, int64_t count)`);
    return {
      version,
      roundTrip(format, values) {
        // no format takes more bytes than f32
        const blocks = new Uint8Array(values.byteLength);
        const result = new Float32Array(values.length);
        call(`quantize_row_${format}_ref`, 'const float *', '_Out_ uint8_t *')(values, blocks, values.length);
        call(`dequantize_row_${format}`, 'const uint8_t *', '_Out_ float *')(blocks, result, values.length);
        return result;
      },
    };
  } catch (error) {
    return `ggml: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`;
  }
}

function find(folder: string | undefined): { path: string; version: string } {
  const home = folder ?? dirname(dirname(createRequire(import.meta.url).resolve(PACKAGE)));
  const found = ['bins/linux-x64', '.']
    .map((place) => join(home, place))
    .find((place) => existsSync(join(place, LIBRARY)));
  if (found === undefined)
    throw new Error(`there is no ${LIBRARY} in ${home}; name the folder of ${PACKAGE} in BENCH_GGML`);
  return { path: join(found, LIBRARY), version: versionAt(join(home, 'package.json')) };
}

function versionAt(path: string): string {
  if (!existsSync(path)) return 'unknown version';
  const { name = PACKAGE, version = '' } = JSON.parse(readFileSync(path, 'utf8')) as {
    name?: string;
    version?: string;
  };
  return `${name} ${version}`;
}
