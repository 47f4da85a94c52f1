// Starts the whole product as a user does, in a folder of its own and on free ports, and stops it by its id.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { signRequest } from '../../core/contract/signatures.ts';
import { type Dtype, joinParts, tensorParts } from '../../core/contract/tensors.ts';

const READY_MS_MAX = 60_000;

export interface Blatam {
  readonly edge: string;
  readonly core: string;
  readonly dataDir: string;
  readonly pid: number;
  /** All that it has printed. */
  readonly output: () => string;
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  /** SIGTERM, and the folder away. */
  stop(): Promise<void>;
  /** A signal; resolves once the process is gone. The folder stays. */
  kill(signal: NodeJS.Signals): Promise<void>;
}

export interface BlatamOptions {
  readonly dataDir?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly extra?: readonly string[];
}

export const ROOT = new URL('../../', import.meta.url).pathname;

/** What `npm start` gives to node. */
function startArguments(): string[] {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: { start: string } };
  const [exec, node, ...rest] = scripts.start.split(' ');
  if (exec !== 'exec' || node !== 'node') throw new Error(`npm start is not 'exec node …': ${scripts.start}`);
  return rest;
}

export const temporaryFolder = (): string => mkdtempSync(join(tmpdir(), 'blatam-test-'));

export function spawnBlatam({ dataDir = temporaryFolder(), environment = {}, extra = [] }: BlatamOptions = {}): {
  child: ChildProcess;
  dataDir: string;
  output: () => string;
} {
  const child = spawn(process.execPath, [...startArguments(), ...extra], {
    cwd: ROOT,
    env: { ...process.env, EDGE_PORT: '0', CORE_PORT: '0', DATA_DIR: dataDir, GPU_MEMORY_MIB: '256', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (more: string) => {
      text += more;
    });
  return { child, dataDir, output: () => text };
}

export async function startBlatam(options: BlatamOptions = {}): Promise<Blatam> {
  const { child, dataDir, output } = spawnBlatam(options);
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    child.once('exit', (code, signal) => resolve({ code, signal })),
  );
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  const pattern = /edge on (\S+), (?:core on (\S+)|before)[\s\S]*?\n/;
  const deadline = performance.now() + READY_MS_MAX;
  while (!pattern.test(output())) {
    if (gone || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`Blatam did not start:\n${output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const [, edge = '', core = ''] = pattern.exec(output()) ?? [];
  const kill = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await exited;
  };
  return {
    edge,
    core,
    dataDir,
    pid: child.pid ?? -1,
    output,
    exited,
    kill,
    async stop() {
      await kill('SIGTERM');
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

export interface KeyFile {
  readonly keyid: string;
  readonly secret: string;
}

export const adminKey = (dataDir: string): KeyFile =>
  JSON.parse(readFileSync(join(dataDir, 'admin-key.json'), 'utf8')) as KeyFile;

export const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();

export interface CallOptions {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly created?: number;
  readonly nonce?: string;
  readonly digest?: Uint8Array;
}

/** The signature fields for a request, as a caller makes them. */
export async function signed(
  key: KeyFile,
  method: string,
  url: string,
  o: CallOptions = {},
): Promise<Record<string, string>> {
  const digest = o.digest ?? (o.body ? sha256(o.body) : undefined);
  return signRequest(
    {
      method,
      url,
      keyid: key.keyid,
      secret: Buffer.from(key.secret, 'base64'),
      ...(o.created === undefined ? {} : { created: o.created }),
      ...(o.nonce === undefined ? {} : { nonce: o.nonce }),
      ...(digest ? { digest } : {}),
    },
    nodeCrypto,
  );
}

/** A signed request by `fetch`. */
export async function call(key: KeyFile, method: string, url: string, o: CallOptions = {}): Promise<Response> {
  const headers = { ...(await signed(key, method, url, o)), ...o.headers };
  return fetch(url, { method, headers, ...(o.body ? { body: o.body as Uint8Array<ArrayBuffer> } : {}) });
}

/** A safetensors file of one tensor of about `bytes` random bytes. */
export function tensorFile(bytes: number, dtype: Dtype = 'U8', elementBytes = 1): Uint8Array {
  const elements = Math.floor(bytes / elementBytes);
  const data = randomBytes(elements * elementBytes);
  return joinParts(tensorParts([{ name: 'x', dtype, shape: [elements], data }]));
}

export const codeOf = async (answer: Response): Promise<string> => {
  const document = (await answer.json()) as { code?: string };
  return document.code ?? '';
};
